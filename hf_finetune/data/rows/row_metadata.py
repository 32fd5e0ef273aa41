"""Read columns about rows: groups, times and slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from hf_finetune.data.rows.bad_rows import refuse_rows
from hf_finetune.data.rows.columns import require_column
from hf_finetune.errors import UserError

SLICE = "slice: "


def read_groups(split: Dataset, split_name: str, column: str) -> list[str]:
    """Return the group of every row as text.

    Raises:
        UserError: the column is missing, or a row has no group.
    """
    cells = _cells(split, split_name, column, "--group_column")
    missing = np.array([_is_empty(cell) for cell in cells], dtype=bool)
    refuse_rows(missing, "group", f"{split_name} split, column {column!r}", "fill the groups in, or drop these rows.")
    return _as_text(split, column, cells)


def add_slices(clean: Dataset, split: Dataset, split_name: str, columns: list[str]) -> Dataset:
    """Return the clean rows with a text column ``slice: NAME`` for each slice column; empty cells are kept.

    Raises:
        UserError: a column is missing.
    """
    for column in columns:
        cells = _cells(split, split_name, column, "--slice_column")
        present = ["(none)" if _is_empty(cell) else cell for cell in cells]
        clean = clean.add_column(f"{SLICE}{column}", _as_text(split, column, present))
    return clean


def _is_empty(cell: Any) -> bool:
    return cell is None or cell != cell or cell == ""


def _as_text(split: Dataset, column: str, cells: list[Any]) -> list[str]:
    names = getattr(split.features[column], "names", None)
    return [names[cell] if names and isinstance(cell, int) else str(cell) for cell in cells]


def read_times(split: Dataset, column: str) -> np.ndarray:
    """Return the time of each training row, shape (rows,): float64 if all cells are numbers, else datetime64 in UTC.

    Dates and times are ISO 8601, in UTC unless they have a time zone.

    Raises:
        UserError: a cell is neither a number nor a time; the message names the row.
    """
    cells = pd.Series(split[column][:])
    if cells.map(type).isin((bool, list, dict)).any():
        raise UserError(
            "the column holds no dates and no numbers",
            where=f"train split, column {column!r}",
            fix="name a column of ISO dates (2024-01-31) or unix times with --time_column.",
        )
    numbers = None
    if not pd.api.types.is_datetime64_any_dtype(cells):
        numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        if np.isfinite(numbers).all():
            return numbers
    # If most cells are numbers, name a cell that is not a number; otherwise one that is not a time.
    texts = cells.map(lambda cell: cell.isoformat() if hasattr(cell, "isoformat") else cell)
    moments = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    wrong = moments.isna().to_numpy()
    if numbers is not None and wrong.sum() > (~np.isfinite(numbers)).sum():
        wrong = ~np.isfinite(numbers)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"row {row + 1} holds {cells[row]!r}; expected an ISO date such as 2024-01-31, or a number, in every row",
            where=f"train split, column {column!r}",
            fix="fix the cell, drop the row, or name another column with --time_column.",
        )
    return moments.dt.tz_localize(None).to_numpy()


def _cells(split: Dataset, split_name: str, column: str, flag: str) -> list[Any]:
    require_column(split, column, f"{split_name} split, {flag}", "name a column that every split has.")
    return split[column][:]
