"""Rows to be predicted, as many as there are: found and checked at once, and then read a piece at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.config.options import DataConfig
from hf_finetune.data.inputs import RowInput
from hf_finetune.data.readers.source import in_blocks
from hf_finetune.data.readers.sources import open_unlabelled as open_rows
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

SHOWN = 5  # bad rows that a message names
Fault = dict[str, Any]
"""A row that nothing can be said of: ``row``, its number from 1, ``id`` and ``reason``."""


@dataclass(frozen=True)
class Unlabelled:
    """A file of texts; or a folder, an archive or a table of images, or one image.

    Args:
        rows: memory-mapped, or of images their paths; nothing is decoded.
        inputs: the user's name of each column → ``text`` and ``text_pair``, or ``image``.
        input: what the rows hold.
        source: what the user called it.
        stamp: size and time of the last change of the file; None for a folder.
    """

    rows: Dataset
    inputs: dict[str, str]
    input: RowInput
    source: str
    stamp: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.rows)

    def pieces(self, size: int, first: int = 0) -> Iterator[Dataset]:
        """``size`` rows at a time (fewer in the last piece) in the order of the source: ``id`` and the inputs.

        Args:
            size: rows of a piece.
            first: the piece to begin with.
        """
        if self.input.cell.stays_a_file:
            for start in range(first * size, len(self), size):
                yield self.rows.select(range(start, min(start + size, len(self))))
            return
        ids = [name for name in ("id",) if name in self.rows.column_names]
        columns = list(dict.fromkeys([*self.inputs, *ids]))
        for number, table in enumerate(read_pieces(self.rows, columns, size, first), first):
            yield standard_rows(table, self.input, self.inputs, number * size)

    def changed(self) -> bool:
        """Whether the file is no longer the one whose rows these are."""
        return _stamp(Path(self.source)) != self.stamp

    def identity(self) -> str:
        """A hash of which file it is, and of which images: by path, size and time of the last change."""
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
    """What is to be predicted.

    Args:
        source: a path.
        kind: what the rows hold.
        config: what the user named of columns, encoding and delimiter.
        trained: standard name → the columns that the model was trained on.

    Raises:
        UserError: nothing there, no rows, no such column, or a file that is being written.
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
    """These columns, ``size`` rows at a time, from a piece on.

    Rows that are kept in files are read and not mapped: pages of a mapped file count as memory of the process.
    """
    import pyarrow as pa

    def tables() -> Iterator[pa.Table]:
        skip = first * size
        for batch in _batches(rows):
            if skip < batch.num_rows:
                yield pa.Table.from_batches([batch.select(columns).slice(skip)])
            skip = max(0, skip - batch.num_rows)

    return in_blocks(tables(), size)


def _batches(rows: Dataset) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    if not rows.cache_files:  # HF_DATASETS_IN_MEMORY_MAX_SIZE keeps them in memory
        yield from rows.data.table.to_batches()
    for file in rows.cache_files:
        with pa.OSFile(file["filename"]) as stream, pa.ipc.open_stream(stream) as batches:
            yield from batches


def standard_rows(table: pa.Table, input: RowInput, inputs: dict[str, str], first: int = 0) -> Dataset:
    """Return ``id`` and the standard columns of the user's rows, of which the first has this number.

    Ids are those of the user's column ``id``, or the numbers of the rows.
    """
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import InMemoryTable

    known = "id" in table.column_names
    ids = [str(i) for i in (table["id"].to_pylist() if known else range(first, first + len(table)))]
    columns = input.standard(table, inputs)
    named = dict(zip(columns.column_names, columns.columns, strict=True))
    return Dataset(InMemoryTable(pa.table({"id": pa.array(ids, pa.string()), **named})), fingerprint=f"{first}")


def find_faults(
    given: Unlabelled, size: int, config: DataConfig, progress: Callable[[int], Any] = lambda rows: None
) -> list[Fault]:
    """The rows without a text, or whose images cannot be read; each process decodes its share.

    Args:
        given: the rows.
        size: rows that are looked at together.
        config: ``on_bad_row`` and ``on_bad_image`` say whether such rows are left out.
        progress: told of every piece how many rows it has.

    Raises:
        UserError: there are such rows and they are not to be left out, or no others.
    """
    images = given.input.cell.stays_a_file
    faults: list[Fault] = []
    for number, piece in enumerate(given.pieces(size)):
        found = _unreadable(piece, given.input) if images else _missing_texts(piece, given.inputs)
        if found:
            ids = piece["id"][:]
            faults += [{"row": number * size + row + 1, "id": ids[row], "reason": reason} for row, reason in found]
        progress(len(piece))
    faults = sorted(_of_all_processes(faults), key=lambda fault: fault["row"]) if images else faults
    if not faults:
        return []
    if (config.on_bad_image if images else config.on_bad_row) == "error":
        raise _bad_image(given, faults) if images else _bad_text(given, faults)
    if len(faults) == len(given):
        raise UserError(
            f"all {len(given)} rows would be left out; the first: {faults[0]['reason']}",
            where=given.source,
            fix="name the right columns, or correct the rows.",
        )
    return faults


def _missing_texts(piece: Dataset, inputs: dict[str, str]) -> list[tuple[int, str]]:
    table = piece.data.table
    found = []
    for standard in dict.fromkeys(inputs.values()):
        if table[standard].null_count:
            reason = f"no text in column {_named(inputs, standard)}"
            found += [(int(row), reason) for row in np.flatnonzero(table[standard].is_null().to_numpy())]
    return sorted(dict(reversed(found)).items())


def _unreadable(piece: Dataset, rows: RowInput) -> list[tuple[int, str]]:
    from accelerate import PartialState

    state = PartialState()
    return rows.unreadable(piece, list(range(state.process_index, len(piece), state.num_processes)))


def _of_all_processes(faults: list[Fault]) -> list[Fault]:
    from accelerate.utils import gather_object

    return gather_object(faults)


def _named(inputs: dict[str, str], standard: str) -> str:
    return " and ".join(repr(own) for own, meant in inputs.items() if meant == standard)


def _bad_text(given: Unlabelled, faults: list[Fault]) -> UserError:
    shown = ", ".join(str(fault["row"]) for fault in faults[:SHOWN]) + (", …" if len(faults) > SHOWN else "")
    return UserError(
        f"{len(faults)} of {len(given)} rows have no text (rows {shown})",
        where=f"{given.source}, {faults[0]['reason'].removeprefix('no text in ')}",
        fix="fill the texts in, or leave these rows out with --on_bad_row skip.",
    )


def _bad_image(given: Unlabelled, faults: list[Fault]) -> UserError:
    first = faults[0]
    path = (given.rows[first["row"] - 1][given.input.cell.column] or {}).get("path") or f"row {first['id']}"
    return UserError(
        f"{len(faults)} of {len(given)} images cannot be read; the first: {path} ({first['reason']})",
        where=given.source,
        fix="fix or remove them, or leave them out with --on_bad_image skip.",
    )


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change of a file; None for what is no file."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_size, status.st_mtime_ns
