"""Names and ids of classes: names as the user wrote them, in natural order, the same in every split."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hf_finetune.data.rows.bad_rows import refuse_rows
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

# A whole number that a spreadsheet wrote with a fraction. ``01`` and ``1.50`` are kept as names.
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+")


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts 2 before 10, and -1 before 0."""
    if re.fullmatch(r"-?\d+", name.strip()):
        return [(0, int(name), name)]
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdecimal() else (2, 0, part.casefold()) for part in parts if part] + [
        (0, 0, name)
    ]


def label_names(split: Dataset, column: str) -> list[str]:
    """Return the class names of a training split, in the order of their ids.

    A ``ClassLabel`` column keeps its names and order; other values are converted to text and sorted naturally.

    Raises:
        UserError: a missing value, numbers that are not classes, or fewer than two classes.
    """
    from datasets import ClassLabel

    feature = split.features[column]
    _refuse_missing(split, column, "train")
    if isinstance(feature, ClassLabel):
        names, found = list(feature.names), {feature.names[i] for i in split.unique(column) if i >= 0}
    else:
        found = set(spellings(split, column).values())
        names = sorted(found, key=natural_key)
    if len(found) < 2:
        raise UserError(
            f"all training rows have the label {next(iter(found), '(none)')!r}; a classifier needs two classes or more",
            where=f"column {column!r}",
            fix="name the label column with --label_column, or add rows of another class; if --max_train_samples took the "
            "first rows of a sorted file, shuffle it.",
        )
    if len(found) > 1000 and len(found) > len(split) / 2:
        raise UserError(
            f"{len(found)} different labels in {len(split)} rows look like ids or free text, not classes",
            where=f"column {column!r}",
            fix="name the label column with --label_column.",
        )
    return names


def encode_labels(split: Dataset, column: str, names: list[str], split_name: str) -> list[int]:
    """Return the class ids of a split.

    Raises:
        UserError: a missing value, or a class that is not in the training rows.
    """
    _refuse_missing(split, column, split_name)
    ids = {name: index for index, name in enumerate(names)}
    spelled = spellings(split, column)
    refuse_unknown({name for name in spelled.values() if name not in ids}, split, column, split_name)
    values: list[Any] = split[column][:]
    return [ids[spelled[value]] for value in values]


def refuse_unknown(unknown: set[str], split: Dataset, column: str, split_name: str) -> None:
    """Refuse labels of a split that are not in the training rows."""
    if not unknown:
        return
    cells = split[column][:]
    row = next(i for i, cell in enumerate(cells) if not unknown.isdisjoint(_names_in(cell, split, column)))
    several = len(unknown) > 1
    listed = ", ".join(map(repr, sorted(unknown, key=natural_key)[:5]))
    raise UserError(
        f"the label{'s' if several else ''} {listed} "
        f"{'do' if several else 'does'} not occur in the training rows (first in row {row + 1})",
        where=f"{split_name} split, column {column!r}",
        fix="fix the spelling, move rows of that class into the training split, or drop them.",
    )


def _names_in(cell: Any, split: Dataset, column: str) -> set[str]:
    from datasets import ClassLabel

    feature = split.features[column]
    named = feature if isinstance(feature, ClassLabel) else getattr(feature, "feature", None)
    cells = cell if isinstance(cell, list) else [cell]
    return {named.names[c] if isinstance(named, ClassLabel) else spell(c, column) for c in cells}


def spellings(split: Dataset, column: str) -> dict[Any, str]:
    """Return value → class name for a column."""
    from datasets import ClassLabel

    feature = split.features[column]
    if is_plain(feature):
        values = [value for value in split.unique(column) if not _missing(value)]
    else:  # JSON of mixed types: lists and objects are refused, other values are classes
        return {value: spell(value, column) for value in split[column][:] if spell(value, column)}
    if isinstance(feature, ClassLabel):
        return {value: feature.names[value] for value in values if value >= 0}
    return {value: spell(value, column) for value in values}


def is_plain(feature: Any) -> bool:
    """Return whether a column has single values of one type, not lists, objects or JSON of mixed types."""
    return type(feature).__name__ in ("Value", "ClassLabel")


def spell(value: Any, column: str) -> str:
    """Return a label as text: ``1`` for 1, 1.0 and the text ``1.0``, ``True`` for True; surrounding spaces are removed."""
    if isinstance(value, float):
        if not value.is_integer():
            raise UserError(
                f"the value {value} is a number, not a class",
                where=f"column {column!r}",
                fix="name a column of classes with --label_column, or add --problem_type regression.",
            )
        value = int(value)
    if isinstance(value, (list, dict)):
        raise UserError(
            f"{type(value).__name__} values are no single class",
            where=f"column {column!r}",
            fix="give one label a row, or add --problem_type multi_label_classification.",
        )
    text = str(value).strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def unlabelled(split: Dataset, column: str) -> bool:
    """Return whether a split hides its labels (all -1 or missing), as the test splits of GLUE do."""
    if column not in split.column_names:
        return True
    return all(_missing(value) or value == -1 for value in split[column][:])


def _refuse_missing(split: Dataset, column: str, split_name: str) -> None:
    from datasets import ClassLabel

    named = isinstance(split.features[column], ClassLabel)
    missing = [i + 1 for i, v in enumerate(split[column][:]) if _missing(v) or (named and v < 0)]
    where = f"{split_name} split, column {column!r}"
    refuse_rows(missing, len(split), "label", where, "fill the labels in, or drop these rows with --on_bad_row skip.")


def _missing(value: Any) -> bool:
    return (
        value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, float) and value != value)
    )
