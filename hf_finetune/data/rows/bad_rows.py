"""Refuse unusable rows, or skip and list them: without text, without label, with an unreadable label or file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import ClassLabel, Dataset, Json

from hf_finetune.config.options import DataConfig
from hf_finetune.console import first_few, warn_and_note
from hf_finetune.data.rows.columns import Columns, is_string
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from hf_finetune.data.protocols import RowInput

SKIPPED = "skipped.jsonl"

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
            empty = np.logical_and.reduce([is_missing(split, own, blank=len(texts) > 1) for own in texts])
            faults.append((empty, standard.removesuffix("_pair"), " and ".join(map(repr, texts))))
    for column in columns.labels:
        if column in split.column_names:
            faults.append((is_missing(split, column, blank=blank), "label", repr(column)))
    if config.on_bad_row == "error":
        for bad, what, column in faults:
            fix = f"fill the {what}s in, or drop these rows with --on_bad_row skip."
            refuse_rows(bad, what, f"{name} split, column {column}", fix)
    return [(bad, f"no {what} in column {column}") for bad, what, column in faults if bad.any()]


def without(split: Dataset, name: str, faults: list[Fault], notes: list[str], skipped: list[dict[str, Any]]) -> Dataset:
    """Return the rows without faults; print, note and list the others. Rows keep their ids, or get their indices as ids.

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
    bad_rows = dict(sorted(first.items()))
    skipped += list_skipped(split, name, bad_rows)
    reasons = ", ".join(dict.fromkeys(bad_rows.values()))
    shown = first_few(row + 1 for row in bad_rows)
    warn_and_note(f"{len(bad_rows)} rows of the {name} split are skipped ({reasons}): {shown}.", notes)
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


def is_missing(split: Dataset, column: str, *, blank: bool) -> np.ndarray:
    """Return which rows have no value in a column: null, NaN, a hidden class (-1), or with ``blank`` only spaces."""
    cells: pa.ChunkedArray = split.with_format("arrow", columns=[column])[:][column]
    missing = pc.is_null(cells, nan_is_null=True)
    feature = split.features[column]
    if isinstance(feature, ClassLabel):
        missing = pc.or_(missing, pc.fill_null(pc.less(cells, 0), False))
    elif blank and (is_string(split, column) or isinstance(feature, Json)):
        texts = cells.cast(pa.large_string())
        texts = pc.utf8_trim(texts, '"') if isinstance(feature, Json) else texts
        missing = pc.or_(missing, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), False))
    return np.asarray(missing.to_numpy(), dtype=bool)


def refuse_rows(bad: np.ndarray, what: str, where: str, fix: str) -> None:
    """Raise a ``UserError`` that names the rows of a mask by number from 1; do nothing if there are none."""
    if bad.any():
        shown = first_few(np.flatnonzero(bad) + 1)
        raise UserError(f"{bad.sum()} of {len(bad)} rows have no {what} (rows {shown})", where=where, fix=fix)


def find_unreadable(split: Dataset, rows: RowInput) -> dict[int, str]:
    """Return row → reason of the files that cannot be decoded. Each process decodes its share, and all return the same."""
    state = PartialState()
    mine = range(state.process_index, len(split), state.num_processes)
    return dict(sorted(gather_object(rows.unreadable(split, list(mine)))))


def refuse_unreadable(split: Dataset, bad: dict[int, str], rows: RowInput, where: str) -> None:
    """Raise a ``UserError`` that names the first of these unreadable rows."""
    row, reason = next(iter(bad.items()))
    file = (split[row][rows.cell.column] or {}).get("path") or f"row {split[row]['id']}"
    raise UserError(
        f"{len(bad)} of {len(split)} {rows.cell.called} cannot be read; the first: {file} ({reason})",
        where=where,
        fix=f"fix or remove them; training and predict can leave them out with --on_bad_{rows.cell.column} skip.",
    )


def list_skipped(split: Dataset, name: str, bad: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return ``split``, ``row`` (number from 1), ``id`` and ``reason`` of rows, given as row → reason."""
    ids = split.select_columns(["id"])[list(bad)]["id"]
    return [
        {"split": name, "row": row + 1, "id": str(id), "reason": bad[row]} for row, id in zip(bad, ids, strict=True)
    ]


def write_skipped(skipped: list[dict[str, Any]], folder: Path) -> None:
    """Write ``skipped.jsonl`` into the run folder, one object per skipped row; no file if there are none."""
    if skipped:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in skipped)
        (folder / SKIPPED).write_text("".join(lines), encoding="utf-8")
