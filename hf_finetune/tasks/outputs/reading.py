"""Find the kind of label of the training rows, and read the cells of label columns."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_finetune.data.rows.labels import is_plain, natural_key, spell
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_finetune.config.options import DataConfig
    from hf_finetune.tasks.outputs.output import Output

# True is equal to 1, and False to 0.
_FLAGS: dict[Any, float] = {0: 0.0, 1: 1.0, "0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


@dataclass(frozen=True)
class Outputs:
    """The possible kinds of label of a task, in the order in which they are tried; the last one is the default."""

    kinds: tuple[type[Output], ...]

    def find(self, train: Dataset, columns: list[str], options: DataConfig) -> Output:
        """Return the output for the training rows; ``--problem_type`` overrides recognition, and may be refused."""
        asked = (kind for kind in self.kinds if options.problem_type == kind.NAME)
        recognised = (kind for kind in self.kinds if kind.recognise(train, columns, options))
        kind = next(asked, None) or next(recognised, self.kinds[-1])
        return kind.read(train, columns, options)

    def restore(self, name: str | None, names: list[str], tuned: dict[str, Any]) -> Output:
        """Return the output of a saved model with labels ``names``, and the values in its settings ``tuned``.

        ``name`` is the ``problem_type``; None or unknown means the last kind.
        """
        return next((kind for kind in self.kinds if name == kind.NAME), self.kinds[-1]).restore(names, tuned)

    def of_model(self, settings: Any) -> Output:
        """Return the output of a saved model from its configuration."""
        names = [settings.id2label[index] for index in range(len(settings.id2label))]
        return self.restore(getattr(settings, "problem_type", None), names, vars(settings))

    def blank_is_missing(self, options: DataConfig) -> bool:
        """Return whether an empty cell is a missing label, not a row without classes."""
        asked = [kind for kind in self.kinds if options.problem_type == kind.NAME]
        return not options.label_delimiter and all(kind.ONE_CLASS or not kind.HAS_CLASSES for kind in asked)


def refuse_delimiter(kind: str, options: DataConfig) -> None:
    """Refuse ``--label_delimiter`` for one label per row."""
    if options.label_delimiter:
        what = f"a delimiter separates several classes, which {kind} does not have"
        fix = "leave it out, or give --problem_type multi_label_classification."
        raise UserError(what, where="--label_delimiter", fix=fix)


# One column with several classes per row


def class_names(split: Dataset, column: str) -> list[str] | None:
    """Return the names of a ``ClassLabel`` column or of a column of lists of them; None for other columns."""
    feature = split.features[column]
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return list(inner.names) if type(inner).__name__ == "ClassLabel" else None


def are_lists(split: Dataset, column: str) -> bool:
    """Return whether every cell of a column is a list, or one written as text: ``["a", "b"]``."""
    feature = split.features[column]
    if isinstance(feature, list) or type(feature).__name__ in ("List", "LargeList", "Sequence"):
        return True
    values = _plain_values(split, column)
    return values is not None and all(isinstance(value, str) and _is_literal(value.strip()) for value in values)


def _plain_values(split: Dataset, column: str) -> list[Any] | None:
    """Return the different values of a column, without missing ones; None for lists, objects and a ``ClassLabel``."""
    if type(split.features[column]).__name__ != "Value":
        return None
    return [value for value in split.unique(column) if value is not None]


def _is_literal(text: str) -> bool:
    return text[:1] + text[-1:] == "[]"


def classes_of_rows(split: Dataset, column: str, delimiter: str | None) -> list[list[str]]:
    """Return the class names of every row; a row may have none."""
    named = class_names(split, column)
    found = []
    for row, value in enumerate(split[column][:], 1):
        values = _cells(value, delimiter, f"row {row}, column {column!r}")
        names = [named[v] if named and isinstance(v, int) else spell(v, column) for v in values if v is not None]
        found.append([name for name in names if name])
    return found


def _cells(value: Any, delimiter: str | None, where: str) -> list[Any]:
    """Return the classes in the cell of a row; no code is run to read a list from text."""
    if value is None:
        fix = "give an empty list where no class applies, or drop the row."
        raise UserError("the row has no labels", where=where, fix=fix)
    if not isinstance(value, str):
        return value if isinstance(value, list) else [value]
    text = value.strip()
    if delimiter:
        return text.split(delimiter)
    if not _is_literal(text):
        return [text]
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError):
            return list(read(text))
    fix = 'write it as ["a", "b"], or give --label_delimiter.'
    raise UserError(f"{text[:60]!r} is not a list of labels", where=where, fix=fix)


def several_names(train: Dataset, column: str, delimiter: str | None) -> list[str]:
    """Return the class names of a training split with several classes per row, at least two."""
    names = sorted({n for cell in classes_of_rows(train, column, delimiter) for n in cell}, key=natural_key)
    named = class_names(train, column)
    if len(named or names) < 2:
        what = f"the training rows have {len(names)} different labels; a classifier needs two or more"
        fix = "name the label column with --label_column, and what separates its labels with --label_delimiter."
        raise UserError(what, where=f"column {column!r}", fix=fix)
    return named or names


# Columns of 0 and 1, one per class, and columns of numbers


def are_flags(split: Dataset, column: str) -> bool:
    """Return whether every value of a column is 0 or 1, false or true."""
    return is_plain(split.features[column]) and all(_flag(value) is not None for value in split.unique(column))


def have_fractions(split: Dataset, column: str) -> bool:
    """Return whether a column has only numbers, some of them with fractions."""
    numbers = [number(value) for value in _plain_values(split, column) or []]
    return None not in numbers and any(found is not None and not found.is_integer() for found in numbers)


def _flag(value: Any) -> float | None:
    if isinstance(value, str):
        value = spell(value, "").lower()
    return _FLAGS.get(value) if isinstance(value, (int, float, str)) else None


def number(value: Any) -> float | None:
    """Return the finite number in a cell, also from text; None if there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


# How cells are read as numbers: a function that returns None for a wrong cell, what is wrong with it, and the fix.
Cells = tuple[Callable[[Any], float | None], str, str]
FLAGS: Cells = (_flag, "; a column of a class holds 0 or 1", "write 1 where the class applies, and 0 elsewhere.")
NUMBERS: Cells = (
    number,
    ", which is not a finite number",
    "fix the cell, drop the row with --on_bad_row skip, or name the column with --label_column.",
)


def encode_columns(split: Dataset, columns: list[str], split_name: str, kind: Cells) -> list[list[float]]:
    """Return the numbers of every row; refuse the first wrong cell."""
    read, wrong, fix = kind
    found = []
    for column in columns:
        cells = split[column][:]
        values = [read(cell) for cell in cells]
        if None in values:
            row = values.index(None)
            what, where = f"row {row + 1} holds {cells[row]!r}{wrong}", f"{split_name} split, column {column!r}"
            raise UserError(what, where=where, fix=fix)
        found.append(values)
    return [list(row) for row in zip(*found, strict=True)]
