"""Which column holds the input and which the label: found by name and type, or named by the user."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

TEXT_NAMES = (
    "text",
    "sentence",
    "content",
    "review",
    "tweet",
    "message",
    "document",
    "body",
    "comment",
    "utterance",
    "query",
)
IMAGE_NAMES = ("image", "img", "picture", "photo")
LABEL_NAMES = ("label", "labels", "target", "class", "category", "sentiment", "emotion", "intent", "fine_label", "y")


def find_label(split: Dataset, named: str | None) -> str:
    """The label column."""
    from datasets import ClassLabel

    if named:
        return _require(split, named, "--label_column")
    by_name = _by_name(split, LABEL_NAMES)
    typed = [name for name, feature in split.features.items() if isinstance(feature, ClassLabel)]
    if by_name or len(typed) == 1:
        return by_name or typed[0]
    raise _not_found(split, "label", "--label_column")


def find_text(split: Dataset, named: str | None, label: str) -> str:
    """The text column."""
    if named:
        return _require(split, named, "--text_column")
    strings = [name for name in split.column_names if is_string(split, name) and name not in (label, "id")]
    by_name = _by_name(split, TEXT_NAMES, among=strings)
    if by_name or len(strings) == 1:
        return by_name or strings[0]
    raise _not_found(split, "text", "--text_column")


def find_image(split: Dataset, named: str | None) -> str:
    """The image column."""
    from datasets import Image

    if named:
        return _require(split, named, "--image_column")
    typed = [name for name, feature in split.features.items() if isinstance(feature, Image)]
    by_name = _by_name(split, IMAGE_NAMES, among=typed)
    if by_name or len(typed) == 1:
        return by_name or typed[0]
    raise _not_found(split, "image", "--image_column")


def is_string(split: Dataset, column: str) -> bool:
    """True for every type of text that Arrow has (pandas 3 writes large_string, polars string_view)."""
    return getattr(split.features[column], "dtype", "") in ("string", "large_string", "string_view")


def _by_name(split: Dataset, candidates: tuple[str, ...], among: list[str] | None = None) -> str | None:
    names = {name.strip().lower(): name for name in (split.column_names if among is None else among)}
    return next((names[candidate] for candidate in candidates if candidate in names), None)


def _require(split: Dataset, named: str, flag: str) -> str:
    if named in split.column_names:
        return named
    near = difflib.get_close_matches(named, split.column_names, n=1)
    raise UserError(
        f"there is no column {named!r}; the columns are {_list(split)}",
        where=flag,
        fix=f"did you mean {flag} {near[0]}?" if near else f"give one of these to {flag}.",
    )


def _not_found(split: Dataset, what: str, flag: str) -> UserError:
    return UserError(
        f"no column is clearly the {what}; the columns are {_list(split)}",
        where="the training rows",
        fix=f"name it with {flag}.",
    )


def _list(split: Dataset) -> str:
    return ", ".join(map(repr, split.column_names))
