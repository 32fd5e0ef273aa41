"""Which columns hold the input and which the labels: found by name and type, or named by the user."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_finetune.errors import UserError
from hf_finetune.options import DataConfig

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


@dataclass(frozen=True)
class Columns:
    """Which columns of the user's are read.

    Args:
        inputs: the user's name of each input column → its standard name: ``text`` and ``text_pair``, or ``image``.
        labels: columns of the labels.
    """

    inputs: dict[str, str]
    labels: list[str]


def find_columns(split: Dataset, kind: str, config: DataConfig) -> Columns:
    """The columns of the training rows that hold inputs and labels.

    Raises:
        UserError: a column that was named is not there, or no column is clearly meant.
    """
    labels = (
        [_require(split, name, "--label_columns") for name in config.label_columns]
        if config.label_columns
        else [find_label(split, config.label_column)]
    )
    if kind == "image":
        return Columns({find_image(split, config.image_column): "image"}, labels)
    text = find_text(split, config.text_column, (*labels, config.text_pair_column or ""))
    inputs = {text: "text"}
    if config.text_pair_column:
        inputs[_require(split, config.text_pair_column, "--text_pair_column")] = "text_pair"
    return Columns(inputs, labels)


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


def find_text(split: Dataset, named: str | None, taken: tuple[str, ...] = ()) -> str:
    """The text column; not one of those that are taken already."""
    if named:
        return _require(split, named, "--text_column")
    strings = [name for name in split.column_names if is_string(split, name) and name not in (*taken, "id")]
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
    hint = f"did you mean {flag} {near[0]}? " if near else ""
    raise UserError(
        f"there is no column {named!r}; the columns are {_list(split)}",
        where=flag,
        fix=f"{hint}give one of these to {flag}.",
    )


def _not_found(split: Dataset, what: str, flag: str) -> UserError:
    return UserError(
        f"no column is clearly the {what}; the columns are {_list(split)}",
        where="the training rows",
        fix=f"name it with {flag}.",
    )


def _list(split: Dataset) -> str:
    return ", ".join(map(repr, split.column_names))
