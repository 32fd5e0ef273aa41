"""Rows for ``predict``, of any number: open and check them, then read them in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.table import InMemoryTable

from hf_finetune.config.options import DataConfig
from hf_finetune.data.protocols import RowInput
from hf_finetune.data.readers.source import in_blocks
from hf_finetune.data.readers.sources import open_unlabelled as open_rows
from hf_finetune.data.rows.bad_rows import find_unreadable, refuse_rows, refuse_unreadable
from hf_finetune.errors import UserError

Fault = dict[str, Any]
"""A row that cannot be predicted: ``row`` (number from 1), ``id`` and ``reason``."""


@dataclass(frozen=True)
class Unlabelled:
    """A file of texts; a folder, archive or table of images; or one image."""

    rows: Dataset  # memory-mapped, with paths of images; nothing is decoded
    inputs: dict[str, str]  # the user's name of each column → its standard name
    input: RowInput
    source: str  # the user's path
    stamp: tuple[int, int] | None  # size and modification time of the file; None for a folder

    def __len__(self) -> int:
        return len(self.rows)

    def pieces(self, size: int, first: int = 0) -> Iterator[Dataset]:
        """Yield pieces of ``size`` rows with ``id`` and the inputs, in order, starting with piece ``first``."""
        if self.input.cell.stays_a_file:
            for start in range(first * size, len(self), size):
                yield self.rows.select(range(start, min(start + size, len(self))))
            return
        columns = [name for name in self.rows.column_names if name in self.inputs or name == "id"]
        for number, table in enumerate(read_pieces(self.rows, columns, size, first), first):
            yield standard_rows(table, self.input, self.inputs, number * size)

    def changed(self) -> bool:
        """Return whether the file was changed after it was opened."""
        return _stamp(Path(self.source)) != self.stamp

    def identity(self) -> str:
        """Return a hash of path, size and modification time of the file or the images."""
        digest = hashlib.sha256(f"{Path(self.source).resolve()} {self.stamp}".encode("utf-8", "surrogateescape"))
        if self.input.cell.stays_a_file:
            for piece in self.pieces(1000):
                for cell in piece[self.input.cell.column]:
                    path = (cell or {}).get("path")
                    digest.update(f"{path} {path and _stamp(Path(path))};".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def open_unlabelled(
    source: str, kind: RowInput, config: DataConfig, trained: dict[str, list[str]] | None = None
) -> Unlabelled:
    """Open the rows to predict; ``trained`` is standard name → columns that the model was trained on.

    Raises:
        UserError: no file, no rows, no such column, or a file that is being written.
    """
    stamp = _stamp(Path(source))
    rows = open_rows(Path(source), kind.cell, config)
    given = Unlabelled(*kind.unlabelled(rows, config, trained, source), kind, source, stamp)
    if given.changed():
        raise UserError(
            f"the file changed while it was read (it had {(stamp or (0,))[0]:,} bytes)",
            where=source,
            fix="wait until it is written, and start again.",
        )
    return given


def read_pieces(rows: Dataset, columns: list[str], size: int, first: int = 0) -> Iterator[pa.Table]:
    """Yield these columns in pieces of ``size`` rows, starting with piece ``first``.

    Files are read, not memory-mapped, because mapped pages count as memory of the process.
    """

    def tables() -> Iterator[pa.Table]:
        skip = first * size
        for batch in _batches(rows):
            if skip < batch.num_rows:
                yield pa.Table.from_batches([batch.select(columns).slice(skip)])
            skip = max(0, skip - batch.num_rows)

    return in_blocks(tables(), size)


def _batches(rows: Dataset) -> Iterator[pa.RecordBatch]:
    if not rows.cache_files:  # HF_DATASETS_IN_MEMORY_MAX_SIZE keeps them in memory
        yield from rows.data.table.to_batches()
    for file in rows.cache_files:
        with pa.OSFile(file["filename"]) as stream, pa.ipc.open_stream(stream) as batches:
            yield from batches


def standard_rows(table: pa.Table, input: RowInput, inputs: dict[str, str], first: int = 0) -> Dataset:
    """Return ``id`` and the standard columns of rows; ids are the user's, or row numbers that start with ``first``."""
    known = "id" in table.column_names
    ids = [str(i) for i in (table["id"].to_pylist() if known else range(first, first + len(table)))]
    columns = input.standard(table, inputs)
    named = dict(zip(columns.column_names, columns.columns, strict=True))
    return Dataset(InMemoryTable(pa.table({"id": pa.array(ids, pa.string()), **named})), fingerprint=f"{first}")


def find_faults(
    given: Unlabelled, size: int, config: DataConfig, progress: Callable[[int], Any] = lambda rows: None
) -> list[Fault]:
    """Return the rows without a text or with an unreadable image, checking ``size`` rows at once.

    ``progress`` is called with the number of rows of each piece.

    Raises:
        UserError: there are such rows and they must not be skipped, or there are no others.
    """
    faults: list[Fault] = []
    for number, piece in enumerate(given.pieces(size)):
        found = _missing_texts(piece, given) | find_unreadable(piece, given.input)
        ids = piece["id"][:] if found else []
        faults += [{"row": number * size + row + 1, "id": ids[row], "reason": found[row]} for row in found]
        progress(len(piece))
    if not faults:
        return []
    bad = {fault["row"] - 1: fault["reason"] for fault in faults}
    if given.input.cell.stays_a_file:
        if config.on_bad(given.input.cell.column) == "error":
            refuse_unreadable(given.rows, bad, given.input, given.source)
    elif config.on_bad_row == "error":
        where = f"{given.source}, {faults[0]['reason'].removeprefix('no text in ')}"
        fix = "fill the texts in, or leave these rows out with --on_bad_row skip."
        refuse_rows(np.isin(np.arange(len(given)), list(bad)), "text", where, fix)
    if len(faults) == len(given):
        raise UserError(
            f"all {len(given)} rows would be left out; the first: {faults[0]['reason']}",
            where=given.source,
            fix="name the right columns, or correct the rows.",
        )
    return faults


def _missing_texts(piece: Dataset, given: Unlabelled) -> dict[int, str]:
    """Return row → reason of the rows without a text."""
    found: dict[int, str] = {}
    for standard, own in given.input.filled(given.inputs).items():
        for row in np.flatnonzero(piece.data.table[standard].is_null()).tolist():
            found.setdefault(row, f"no text in column {' and '.join(map(repr, own))}")
    return dict(sorted(found.items()))


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return size in bytes and modification time of a file; None if it is not a file."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_size, status.st_mtime_ns
