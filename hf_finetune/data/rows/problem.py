"""What a row is labelled with: one class, several classes, or numbers; and the labels of every split in that form."""

from __future__ import annotations

import ast
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data.rows.labels import encode_labels, is_plain, label_names, natural_key, refuse_unknown, spell
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

# As transformers spells them in a model's ``problem_type``.
SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
_BINARY = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


@dataclass
class Problem:
    """How the labels of a data set are read.

    Args:
        kind: ``single_label_classification``, ``multi_label_classification`` or ``regression``.
        columns: where the labels stand.
        names: the classes, or of numbers their columns.
        delimiter: what separates the classes of one cell.
    """

    kind: str
    columns: list[str]
    names: list[str]
    delimiter: str | None = None

    def encode(self, split: Dataset, split_name: str) -> list[Any]:
        """Labels of a split: class ids, or of each row a list of 0.0 and 1.0 or of numbers, as long as ``names``.

        Raises:
            UserError: a missing value, an unknown class, or what is no number.
        """
        if self.kind == SINGLE:
            return encode_labels(split, self.columns[0], self.names, split_name)
        if self.kind == REGRESSION:
            return _numbers(split, self.columns, split_name)
        if len(self.columns) > 1:
            return _flags(split, self.columns, split_name)
        column = self.columns[0]
        cells = _cells(split, column, self.delimiter)
        ids = {name: index for index, name in enumerate(self.names)}
        refuse_unknown({name for cell in cells for name in cell} - ids.keys(), split, column, split_name)
        rows = [[0.0] * len(ids) for _ in cells]
        for row, cell in zip(rows, cells, strict=True):
            for name in cell:
                row[ids[name]] = 1.0
        return rows


def find_problem(train: Dataset, columns: list[str], config: DataConfig) -> Problem:
    """Read off the training rows what their labels are; ``--problem_type`` wins.

    Several columns are 0/1 columns, one a class, or numbers; lists are several classes; numbers with fractions are
    regression; everything else is one class.

    Raises:
        UserError: the labels are not of the kind that was asked for.
    """
    kind = config.problem_type or _kind(train, columns, config.label_delimiter)
    if kind != MULTI and config.label_delimiter:
        raise UserError(
            f"a delimiter separates several classes, which {kind} does not have",
            where="--label_delimiter",
            fix="leave it out, or give --problem_type multi_label_classification.",
        )
    if kind == SINGLE:
        if len(columns) > 1:
            raise UserError(
                "one class a row stands in one column",
                where="--label_columns",
                fix="name it with --label_column.",
            )
        return Problem(kind, columns, label_names(train, columns[0]))
    if kind == REGRESSION:
        return Problem(kind, columns, columns)
    if len(columns) > 1:
        return Problem(kind, columns, columns)
    names = sorted({n for cell in _cells(train, columns[0], config.label_delimiter) for n in cell}, key=natural_key)
    named = _class_names(train, columns[0])
    if len(named or names) < 2:
        raise UserError(
            f"the training rows have {len(names)} different labels; a classifier needs two or more",
            where=f"column {columns[0]!r}",
            fix="name the label column with --label_column, and what separates its labels with --label_delimiter.",
        )
    return Problem(kind, columns, named or names, config.label_delimiter)


def _kind(train: Dataset, columns: list[str], delimiter: str | None) -> str:
    if len(columns) > 1:
        return MULTI if all(_as_flags(train, column) is not None for column in columns) else REGRESSION
    column = columns[0]
    if delimiter or is_list(train.features[column]):
        return MULTI
    if _class_names(train, column) is not None or not is_plain(train.features[column]):
        return SINGLE  # objects are no class either, which is said where classes are named
    values = [value for value in train.unique(column) if value is not None]
    if all(isinstance(value, str) and value.strip()[:1] + value.strip()[-1:] == "[]" for value in values):
        return MULTI
    numbers = [number(value) for value in values]
    fractions = any(found is not None and not found.is_integer() for found in numbers)
    if fractions and None not in numbers:
        say(f"Column {column!r} holds numbers with fractions: regression (--problem_type names another kind).")
        return REGRESSION
    return SINGLE


def is_list(feature: Any) -> bool:
    """Whether the cells of a column are lists."""
    return isinstance(feature, list) or type(feature).__name__ in ("List", "LargeList", "Sequence")


def _class_names(split: Dataset, column: str) -> list[str] | None:
    feature = split.features[column]
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return list(inner.names) if type(inner).__name__ == "ClassLabel" else None


def _cells(split: Dataset, column: str, delimiter: str | None) -> list[list[str]]:
    """The class names of every row; a row may have none."""
    named = _class_names(split, column)
    return [_classes(value, row, column, delimiter, named) for row, value in enumerate(split[column][:])]


def _classes(value: Any, row: int, column: str, delimiter: str | None, named: list[str] | None) -> list[str]:
    where = f"row {row + 1}, column {column!r}"
    if value is None:
        raise UserError(
            "the row has no labels", where=where, fix="give an empty list where no class applies, or drop the row."
        )
    if isinstance(value, str):
        text = value.strip()
        if delimiter:
            value = text.split(delimiter)
        elif text[:1] + text[-1:] == "[]":
            value = _literal_list(text, where)
        else:
            value = [text]
    values = value if isinstance(value, list) else [value]
    names = [named[v] if named and isinstance(v, int) else spell(v, column) for v in values if v is not None]
    return [name for name in names if name]


def _literal_list(text: str, where: str) -> list[Any]:
    """A list as JSON or Python writes it; nothing is run."""
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
            raise UserError(
                f"{text[:60]!r} is no list of labels",
                where=where,
                fix='write it as ["a", "b"], or give --label_delimiter.',
            ) from error
    return list(found)


def _as_flags(split: Dataset, column: str) -> dict[Any, float] | None:
    """The 0.0 or 1.0 that every value of a column means; None if one means neither."""
    if not is_plain(split.features[column]):
        return None
    values = split.unique(column)
    found = {v: _BINARY[spell(v, column).lower()] for v in values if _is_flag(v)}
    return found if len(found) == len(values) else None


def _is_flag(value: Any) -> bool:
    whole = isinstance(value, (bool, int, str)) or (isinstance(value, float) and value.is_integer())
    return whole and spell(value, "").lower() in _BINARY


def _flags(split: Dataset, columns: list[str], split_name: str) -> list[list[float]]:
    found = []
    for column in columns:
        flags = _as_flags(split, column)
        if flags is None:
            row, wrong = next((i, v) for i, v in enumerate(split[column][:], 1) if not _is_flag(v))
            raise UserError(
                f"row {row} holds {wrong!r}; a column of a class holds 0 or 1",
                where=f"{split_name} split, column {column!r}",
                fix="write 1 where the class applies and 0 where it does not.",
            )
        found.append([flags[value] for value in split[column][:]])
    return [list(row) for row in zip(*found, strict=True)]


def _numbers(split: Dataset, columns: list[str], split_name: str) -> list[list[float]]:
    cells = [split[column][:] for column in columns]
    found = []
    for column, values in zip(columns, cells, strict=True):
        numbers = [number(value) for value in values]
        if None in numbers:
            row = numbers.index(None)
            raise UserError(
                f"row {row + 1} holds {values[row]!r}, which is no finite number",
                where=f"{split_name} split, column {column!r}",
                fix="mend the cell, drop the row with --on_bad_row skip, or name the column with --label_column.",
            )
        found.append(numbers)
    return [list(row) for row in zip(*found, strict=True)]


def number(value: Any) -> float | None:
    """The finite number that a cell holds, also as text; None if it holds none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
