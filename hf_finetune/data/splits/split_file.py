"""Write and read ``splits.parquet``, the split of every row of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import UserError, first_line

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

FILE = "splits.parquet"
UNUSED = "unused"  # rows in no split


def split_table(given: dict[str, Dataset], belongs: dict[str, np.ndarray]) -> pa.Table:
    """Return a table with ``id``, ``row`` (from 0), ``source`` (original split), ``split`` and, if any, ``group``."""
    import pyarrow as pa

    tables = []
    for source, split in given.items():
        columns: dict[str, Any] = {
            "id": pa.array(split["id"][:], pa.string()),
            "row": np.arange(len(split)),
            "source": pa.array(np.full(len(split), source, dtype=object), pa.string()),
            "split": pa.array(belongs[source].astype(object), pa.string()),
        }
        if "group" in split.column_names:
            columns["group"] = pa.array(split["group"][:], pa.string())
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def write_split_file(folder: Path, table: pa.Table) -> None:
    """Write ``splits.parquet`` into the run folder."""
    import pyarrow.parquet as pq

    pq.write_table(table, folder / FILE)


def refuse_other_rows(folder: Path, table: pa.Table) -> None:
    """Raise a ``UserError`` unless a resumed run, if it has ``splits.parquet``, has the same rows in the same splits."""
    import pyarrow.parquet as pq

    columns = ["id", "row", "source", "split"]
    if (folder / FILE).exists() and not pq.read_table(folder / FILE, columns=columns).equals(table.select(columns)):
        raise UserError(
            "the rows, or the splits that they are in, are not those that the run began with",
            where=f"--resume_from_checkpoint, {folder / FILE}",
            fix="give the same data and flags as then, or start again in another --output_dir.",
        )


def read_split_file(path: Path, given: dict[str, Dataset]) -> dict[str, np.ndarray]:
    """Return the split of every row in another run.

    Args:
        path: ``splits.parquet``, or the run folder with it.
        given: original split → rows, which must be those of that run.

    Returns:
        Original split → names of splits, shape (rows,).

    Raises:
        UserError: no such file, another kind of file, or other rows; the message names the first difference.
    """
    import pandas as pd
    import pyarrow as pa

    file = path / FILE if path.is_dir() else path
    where = f"--splits_file {path}"
    if not file.is_file():
        raise UserError("the file does not exist", where=where, fix=f"give the {FILE} of a run, or its folder.")
    try:
        frame = pd.read_parquet(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"the file cannot be read ({first_line(error)})", where=where, fix=f"give the {FILE} of a run."
        ) from error
    absent = {"id", "row", "source", "split"} - set(frame.columns)
    strange = set() if absent else set(frame["split"].unique()) - {"train", "validation", "test", UNUSED}
    if absent or strange:
        what = f"has no column {min(absent)!r}" if absent else f"names a split {min(map(str, strange))!r}"
        raise UserError(f"the file {what}", where=where, fix=f"give the {FILE} that a run wrote.")
    if not (frame["split"] == "train").any():
        raise UserError("the file has no training row", where=where, fix=f"give the {FILE} that a run wrote.")
    other = set(frame["source"]) ^ given.keys()
    if other:
        name = min(other)
        what = "the data has" if name in given else "the file has"
        raise UserError(
            f"{what} a split {name!r} that the {'file' if name in given else 'data'} has not",
            where=where,
            fix="give the data that the splits were made of.",
        )
    return {
        source: _of_source(frame[frame["source"] == source], split, source, where) for source, split in given.items()
    }


def _of_source(frame: Any, split: Dataset, source: str, where: str) -> np.ndarray:
    fix = "give the data that the splits were made of, in its order, with the same --max_train_samples and the like."
    if len(frame) != len(split):
        raise UserError(
            f"the file has {len(frame)} rows of the {source} split, the data {len(split)}", where=where, fix=fix
        )
    frame = frame.sort_values("row")
    if not np.array_equal(frame["row"].to_numpy(), np.arange(len(frame))):
        raise UserError(f"the rows of the {source} split are not numbered from 0 on", where=where, fix=fix)
    ours, theirs = np.asarray(split["id"][:], dtype=object), frame["id"].to_numpy(dtype=object)
    differ = np.flatnonzero(ours != theirs)
    if len(differ):
        row = int(differ[0])
        raise UserError(
            f"row {row + 1} of the {source} split has the id {theirs[row]!r} in the file and {ours[row]!r} in the data",
            where=where,
            fix=fix,
        )
    return frame["split"].to_numpy(dtype=object).astype("<U10")
