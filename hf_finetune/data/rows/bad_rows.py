"""Find and remove unusable rows: without text, without label, or with an unusable label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.config.options import DataConfig
from hf_finetune.data.rows.columns import Columns, is_string
from hf_finetune.data.rows.skipped import record_skipped
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from hf_finetune.data.inputs import RowInput


Fault = tuple[np.ndarray, str]  # mask of rows, shape (rows,), and the reason


def missing(
    split: Dataset, name: str, rows: RowInput, columns: Columns, config: DataConfig, *, blank: bool
) -> list[Fault]:
    """Return the rows without text or label.

    An empty text is a text. ``blank`` says whether an empty cell is a missing label.

    Raises:
        UserError: there are such rows, and ``--on_bad_row`` is not ``skip``.
    """
    faults = []
    for standard, named in rows.filled(columns.inputs).items():
        texts = [own for own in named if own in split.column_names and is_string(split, own)]
        if texts:  # of several columns joined to one text, one cell is enough
            empty = np.logical_and.reduce([_is_missing(split, own, blank=len(texts) > 1) for own in texts])
            faults.append((empty, standard.removesuffix("_pair"), "' and '".join(texts)))
    for column in columns.labels:
        if column in split.column_names:
            faults.append((_is_missing(split, column, blank=blank), "label", column))
    if config.on_bad_row == "error":
        for bad, what, column in faults:
            fix = f"fill the {what}s in, or drop these rows with --on_bad_row skip."
            where = f"{name} split, column {column!r}"
            refuse_rows((np.flatnonzero(bad) + 1).tolist(), len(bad), what, where, fix)
    return [(bad, f"no {what} in column {column!r}") for bad, what, column in faults if bad.any()]


def without(split: Dataset, name: str, faults: list[Fault], notes: list[str], skipped: list[dict[str, Any]]) -> Dataset:
    """Return the rows without faults; record the others as skipped. Rows keep their ids, or get their indices as ids.

    Raises:
        UserError: no row is left.
    """
    first: dict[int, str] = {}
    for bad, reason in faults:
        for row in np.flatnonzero(bad).tolist():
            first.setdefault(row, reason)
    if not first:
        return split
    kept = sound_rows(name, faults)
    if "id" not in split.column_names:
        split = split.add_column("id", [str(row) for row in range(len(split))])
    order = sorted(first)
    ids = split.select_columns(["id"])[order]["id"]
    record_skipped(skipped, name, [(row + 1, str(id), first[row]) for row, id in zip(order, ids, strict=True)], notes)
    return split.select(kept)


def sound_rows(name: str, faults: list[Fault]) -> np.ndarray:
    """Return the indices of the rows of a split without any of its faults (one or more).

    Raises:
        UserError: there are none.
    """
    bad = np.logical_or.reduce([found for found, _ in faults])
    if bad.all():
        raise UserError(
            f"all {len(bad)} rows would be skipped: {', '.join(dict.fromkeys(reason for _, reason in faults))}",
            where=f"{name} split",
            fix="name the right columns with --text_column and --label_column.",
        )
    return np.flatnonzero(~bad)


def _is_missing(split: Dataset, column: str, blank: bool = False) -> np.ndarray:
    """Return which rows have no value in a column: null, NaN, a hidden class (-1), or with ``blank`` only spaces."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import ClassLabel

    cells: pa.ChunkedArray = split.select_columns([column]).with_format("arrow")[:][column]
    missing = pc.is_null(cells, nan_is_null=True)
    if isinstance(split.features[column], ClassLabel):
        missing = pc.or_(missing, pc.fill_null(pc.less(cells, 0), False))
    elif blank and is_string(split, column):
        trimmed = pc.utf8_trim_whitespace(cells.cast(pa.large_string()))
        missing = pc.or_(missing, pc.fill_null(pc.equal(trimmed, ""), False))
    return np.asarray(missing.to_numpy(), dtype=bool)


def refuse_rows(rows: Sequence[int], total: int, what: str, where: str, fix: str) -> None:
    """Raise a ``UserError`` that names rows by number from 1; do nothing if there are none."""
    if len(rows):
        shown = ", ".join(str(row) for row in rows[:5]) + (", …" if len(rows) > 5 else "")
        raise UserError(f"{len(rows)} of {total} rows have no {what} (rows {shown})", where=where, fix=fix)
