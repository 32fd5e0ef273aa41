"""Names and ids of classes: names as the user wrote them, in natural order, the same in every split."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Any

from datasets import ClassLabel, Dataset

from hf_finetune.console import say_and_note
from hf_finetune.data.rows.bad_rows import is_missing
from hf_finetune.errors import UserError

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
    """Return the class names of a training split without missing labels, in the order of their ids.

    A ``ClassLabel`` column keeps its names and order; other values are converted to text and sorted naturally.

    Raises:
        UserError: numbers that are not classes, or fewer than two classes.
    """
    feature = split.features[column]
    found = set(_spellings(split, column).values())
    names = list(feature.names) if isinstance(feature, ClassLabel) else sorted(found, key=natural_key)
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
    """Return the class ids of a split without missing labels.

    Raises:
        UserError: a class that is not in the training rows.
    """
    ids = {name: index for index, name in enumerate(names)}
    spelled = _spellings(split, column)
    labels = [spelled[value] for value in split[column][:]]
    refuse_unknown(([label] for label in labels), ids, column, split_name)
    return [ids[label] for label in labels]


def refuse_unknown(rows: Iterable[list[str]], known: Container[str], column: str, split_name: str) -> None:
    """Refuse a split with classes that the training rows do not have; ``rows`` are the names of each row's classes."""
    unknown: dict[str, int] = {}
    for row, names in enumerate(rows, 1):
        for name in names:
            if name not in known:
                unknown.setdefault(name, row)
    if not unknown:
        return
    several = len(unknown) > 1
    listed = ", ".join(map(repr, sorted(unknown, key=natural_key)[:5]))
    raise UserError(
        f"the label{'s' if several else ''} {listed} "
        f"{'do' if several else 'does'} not occur in the training rows (first in row {min(unknown.values())})",
        where=f"{split_name} split, column {column!r}",
        fix="fix the spelling, move rows of that class into the training split, or drop them.",
    )


def _spellings(split: Dataset, column: str) -> dict[Any, str]:
    """Return value → class name for a column without missing values; lists and objects are refused."""
    feature = split.features[column]
    values = split.unique(column) if is_plain(feature) else split[column][:]
    return {
        value: feature.names[value] if isinstance(feature, ClassLabel) else spell(value, column) for value in values
    }


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
    missing = is_missing(split, column, blank=True)
    return all(gone or value == -1 for gone, value in zip(missing, split[column][:], strict=True))


def drop_unlabelled(splits: dict[str, Dataset], column: str, notes: list[str]) -> None:
    """Remove the held-out splits that hide their labels."""
    for name in [name for name, split in splits.items() if name != "train" and unlabelled(split, column)]:
        del splits[name]
        say_and_note(f"The {name} split has no labels and is not used.", notes)
