"""Write and read ``splits.parquet``, the split of every row of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from hf_finetune.errors import UserError, first_line

FILE = "splits.parquet"
UNUSED = "unused"  # rows in no split
COLUMNS = ["id", "row", "source", "split"]


def split_table(given: dict[str, Dataset], belongs: dict[str, np.ndarray]) -> pa.Table:
    """Return a table with ``id``, ``row`` (from 0), ``source`` (original split), ``split`` and, if any, ``group``."""
    tables = []
    for source, split in given.items():
        columns: dict[str, Any] = {
            "id": pa.array(split["id"][:], pa.string()),
            "row": np.arange(len(split)),
            "source": pa.repeat(source, len(split)),
            "split": pa.array(belongs[source].tolist(), pa.string()),
        }
        if "group" in split.column_names:
            columns["group"] = pa.array(split["group"][:], pa.string())
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def write_split_file(folder: Path, table: pa.Table) -> None:
    """Write ``splits.parquet`` into the run folder."""
    pq.write_table(table, folder / FILE)


def refuse_other_rows(folder: Path, table: pa.Table) -> None:
    """Raise a ``UserError`` unless a resumed run, if it has ``splits.parquet``, has the same rows in the same splits."""
    file = folder / FILE
    if file.exists() and not pq.read_table(file, columns=COLUMNS).equals(table.select(COLUMNS)):
        raise UserError(
            "the rows, or the splits that they are in, are not those that the run began with",
            where=f"--resume_from_checkpoint, {file}",
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
    where = f"--splits_file {path}"
    file = path / FILE if path.is_dir() else path
    wrong_file = f"give the {FILE} of a run, or its folder."
    if not file.is_file():
        raise UserError("the file does not exist", where=where, fix=wrong_file)
    try:
        frame = pd.read_parquet(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"the file cannot be read ({first_line(error)})", where=where, fix=wrong_file) from error
    absent = set(COLUMNS) - set(frame.columns)
    if absent:
        raise UserError(f"the file has no column {min(absent)!r}", where=where, fix=wrong_file)
    strange = set(frame["split"].unique()) - {"train", "validation", "test", UNUSED}
    if strange:
        raise UserError(f"the file names a split {min(map(str, strange))!r}", where=where, fix=wrong_file)
    if not (frame["split"] == "train").any():
        raise UserError("the file has no training row", where=where, fix=wrong_file)
    other = set(frame["source"]) ^ given.keys()
    if other:
        name = min(other)
        one, two = ("data", "file") if name in given else ("file", "data")
        raise UserError(
            f"the {one} has a split {name!r} that the {two} has not",
            where=where,
            fix="give the data that the splits were made of.",
        )
    return {
        source: _of_source(frame[frame["source"] == source], split, source, where) for source, split in given.items()
    }


def _of_source(frame: pd.DataFrame, split: Dataset, source: str, where: str) -> np.ndarray:
    def refuse(what: str) -> NoReturn:
        fix = (
            "give the data that the splits were made of, in its order, with the same --max_train_samples and the like."
        )
        raise UserError(what, where=where, fix=fix)

    if len(frame) != len(split):
        refuse(f"the file has {len(frame)} rows of the {source} split, the data {len(split)}")
    frame = frame.sort_values("row")
    if not np.array_equal(frame["row"].to_numpy(), np.arange(len(frame))):
        refuse(f"the rows of the {source} split are not numbered from 0 on")
    ours, theirs = np.asarray(split["id"][:], dtype=object), frame["id"].to_numpy(dtype=object)
    differ = np.flatnonzero(ours != theirs)
    if len(differ):
        row = int(differ[0])
        refuse(
            f"row {row + 1} of the {source} split has the id {theirs[row]!r} in the file and {ours[row]!r} in the data"
        )
    return frame["split"].to_numpy(dtype=object).astype("<U10")
