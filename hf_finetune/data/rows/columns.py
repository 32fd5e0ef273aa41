"""Find the columns of inputs and labels by name and type, or as named by the user."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_finetune.config.options import DataConfig
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_finetune.data.inputs import RowInput

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
# Names of first and second texts in data sets of the Hub.
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("query", "passage"),
)
IMAGE_NAMES = ("image", "img", "picture", "photo")
LABEL_NAMES = (
    "label",
    "labels",
    "target",
    "class",
    "category",
    "sentiment",
    "emotion",
    "intent",
    "fine_label",
    "y",
    "score",
    "cls",
)


@dataclass(frozen=True)
class Columns:
    """The user's columns that are read.

    Args:
        inputs: the user's name of each input column → its standard name: ``text`` and ``text_pair``, or ``image``. Several
            columns may be ``text``: they are joined in this order.
        labels: label columns.
        group: group column, or None.
        time: time column, or None.
    """

    inputs: dict[str, str]
    labels: list[str]
    group: str | None = None
    time: str | None = None


def find_columns(split: Any, rows: RowInput, config: DataConfig) -> Columns:
    """Return the columns of inputs and labels of the training rows.

    Raises:
        UserError: a named column is missing, or the choice is not clear.
    """
    labels = (
        [_require(split, name, "--label_columns") for name in config.label_columns]
        if config.label_columns
        else [find_label(split, config.label_column)]
    )
    group = _require(split, config.group_column, "--group_column") if config.group_column else None
    time = _require(split, config.time_column, "--time_column") if config.time_column else None
    taken = tuple(name for name in (*labels, group, time) if name)
    return Columns(rows.find_columns(split, config, taken), labels, group, time)


def find_texts(
    split: Dataset, config: DataConfig, taken: tuple[str, ...], trained: dict[str, list[str]] | None = None
) -> dict[str, str]:
    """Return the column of each text → its standard name, ``text`` or ``text_pair``.

    Args:
        split: the rows.
        config: columns named by the user.
        taken: columns with another purpose.
        trained: standard name → columns that a model was trained on, the default for columns that the user did not name.

    Raises:
        UserError: a named column is missing, the choice is not clear, or a column is named twice.
    """
    if config.text_column and config.text_columns:
        raise UserError(
            "--text_column and --text_columns exclude each other",
            where="--text_columns",
            fix="name one column with --text_column, or all with --text_columns.",
        )
    first = config.text_columns or ([config.text_column] if config.text_column else [])
    flag = "--text_columns" if config.text_columns else "--text_column"
    inputs = {_require(split, name, flag): "text" for name in first}
    pair = config.text_pair_column and _require(split, config.text_pair_column, "--text_pair_column")
    if trained is not None:
        inputs = inputs or {_require_trained(split, name, "--text_column"): "text" for name in trained["text"]}
        seconds = [pair] if pair else trained.get("text_pair", [])
        pair = next((_require_trained(split, name, "--text_pair_column") for name in seconds), None)
    elif not inputs:
        found, other = find_pair(split, taken, pair) or (None, pair)
        inputs, pair = {found or find_text(split, None, (*taken, pair or "")): "text"}, other
    if pair in inputs:
        raise UserError(
            f"{pair!r} is named as both texts of a pair",
            where="--text_pair_column",
            fix="name the column of the second text.",
        )
    return inputs | ({pair: "text_pair"} if pair else {})


def find_pair(split: Dataset, taken: tuple[str, ...], second: str | None = None) -> tuple[str, str] | None:
    """Return the columns of a known pair; None if there is no or more than one pair, or a column named like a text.

    ``second`` restricts the search to pairs with this second column.
    """
    strings = [name for name in split.column_names if is_string(split, name) and name not in (*taken, "id")]
    pairs = [
        (one, other)
        for one, other in ((_by_name(split, (a,), strings), _by_name(split, (b,), strings)) for a, b in PAIR_NAMES)
        if one and other and second in (None, other)
    ]
    if len(pairs) != 1:
        return None
    alone = _by_name(split, TEXT_NAMES, among=[name for name in strings if name not in pairs[0]])
    return None if alone and second is None else pairs[0]


def find_label(split: Dataset, named: str | None) -> str:
    """Return the label column."""
    from datasets import ClassLabel

    if named:
        return _require(split, named, "--label_column")
    by_name = _by_name(split, LABEL_NAMES)
    typed = [name for name, feature in split.features.items() if isinstance(feature, ClassLabel)]
    if by_name or len(typed) == 1:
        return by_name or typed[0]
    raise _not_found(split, "label", "--label_column")


def find_text(split: Dataset, named: str | None, taken: tuple[str, ...] = ()) -> str:
    """Return the text column, none of those in ``taken``."""
    if named:
        return _require(split, named, "--text_column")
    strings = [name for name in split.column_names if is_string(split, name) and name not in (*taken, "id")]
    by_name = _by_name(split, TEXT_NAMES, among=strings)
    if by_name or len(strings) == 1:
        return by_name or strings[0]
    raise _not_found(split, "text", "--text_column")


def find_image(split: Dataset, named: str | None) -> str:
    """Return the image column."""
    from datasets import Image

    if named:
        return _require(split, named, "--image_column")
    typed = [name for name, feature in split.features.items() if isinstance(feature, Image)]
    by_name = _by_name(split, IMAGE_NAMES, among=typed)
    if by_name or len(typed) == 1:
        return by_name or typed[0]
    raise _not_found(split, "image", "--image_column")


def is_string(split: Any, column: str) -> bool:
    """Return whether a column is of any of Arrow's text types (pandas 3 writes large_string, polars string_view)."""
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


def _require_trained(split: Dataset, name: str, flag: str) -> str:
    if name in split.column_names:
        return name
    raise UserError(
        f"there is no column {name!r}, which the model was trained on; the columns are {_list(split)}",
        where="the rows to predict",
        fix=f"name the column with {flag}.",
    )


def _not_found(split: Dataset, what: str, flag: str) -> UserError:
    return UserError(
        f"no column is clearly the {what}; the columns are {_list(split)}",
        where="the training rows",
        fix=f"name it with {flag}.",
    )


def _list(split: Dataset) -> str:
    return ", ".join(map(repr, split.column_names))
