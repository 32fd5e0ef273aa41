"""One split of what the user named: its rows in blocks of bounded size, cached or read again each time.

Every reader gives a source, and both ways of reading go through it: ``keep`` writes the blocks into an Arrow file in the
cache of ``datasets``, which is memory-mapped, and ``--streaming`` asks for the blocks themselves in every epoch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features
from datasets.fingerprint import Hasher
from datasets.table import InMemoryTable

from hf_finetune.errors import UserError

BLOCK = 10_000  # rows held at once while rows are kept
VERSION = 3  # rises when the same file gives other rows than before


@dataclass(frozen=True)
class File:
    """A file that stands alone, or the part of an archive that is one."""

    path: Path  # of the file, or of the archive
    offset: int = 0
    size: int | None = None  # bytes of the part; None for the whole file

    def read(self) -> bytes:
        """Return its bytes."""
        if self.size is None:
            return self.path.read_bytes()
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)


Read = Callable[[list[str], int], Iterable["pa.Table"]]
"""Yields these columns of all rows, in tables of about the given number of rows."""


@dataclass
class Source:
    """One split, as often as it is asked for.

    Args:
        name: what it is called in messages.
        find_schema: gives names and types of the columns; asked once, and not at all where the rows were kept before.
        read: gives the rows.
        files: what the rows are read from; None where they depend on more than their files, and are not kept on disk.
        how: everything else that the rows depend on.
        announce: told the schema each time that rows are opened, also where they were kept before.
        kept: gives all rows where ``datasets`` keeps them itself.
        limit: rows that count, from the first; None for all.
    """

    name: str
    find_schema: Callable[[], pa.Schema]
    read: Read
    files: list[Path] | None = None
    how: Any = None
    announce: Callable[[pa.Schema], None] | None = None
    kept: Callable[[], Dataset] | None = None
    limit: int | None = None

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the columns, with the features of ``datasets`` in its metadata where they say more."""
        schema = self.find_schema()
        if any("\0" in name for name in schema.names):  # Arrow files end names there
            raise UserError("the name of a column holds a NUL character", where=self.name, fix="rename the column.")
        return schema

    @property
    def features(self) -> Features:
        """Names and types of the columns, as ``datasets`` spells them."""
        return Features.from_arrow_schema(self.schema)

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    def blocks(self, columns: list[str], size: int) -> Iterator[pa.Table]:
        """Yield these columns of all rows, ``size`` rows at a time (fewer in the last block), in the order of the source.

        Raises:
            UserError: the rows cannot be read.
        """
        return in_blocks(self.read(columns, size), size, self.limit)

    def keep(self) -> Dataset:
        """Return all rows, memory-mapped from the cache; of rows that are not kept on disk, in memory.

        Raises:
            UserError: the rows cannot be read, or there are none.
        """
        if self.kept:
            return self.kept()
        if self.files is not None:
            return self._keep_on_disk(self.files)
        tables = [*self.read(self.column_names, BLOCK)] or [self.schema.empty_table()]
        return Dataset(InMemoryTable(pa.concat_tables(tables)), info=DatasetInfo(features=self.features))

    def _keep_on_disk(self, files: list[Path]) -> Dataset:
        """Return the rows, memory-mapped; they are read again if a file or the way of reading it has changed."""
        folder = Path(datasets.config.HF_DATASETS_CACHE) / "hf_finetune"
        stats = [(str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
        path = folder / f"{Hasher.hash([VERSION, stats, self.how])}.arrow"
        if not path.exists():
            unfinished = path.with_suffix(f".{os.getpid()}.partial")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                rows = 0
                with pa.OSFile(str(unfinished), "wb") as file, pa.ipc.new_stream(file, self.schema) as writer:
                    for table in self.read(self.column_names, BLOCK):
                        writer.write_table(table)
                        rows += len(table)
                if not rows:
                    raise UserError("the file has no rows", where=self.name, fix="give a file with rows.")
                unfinished.replace(path)  # whole or not at all, also where several processes read the same file
            except OSError as error:
                raise UserError(
                    f"the rows cannot be kept ({error})", where=str(folder), fix="free disk, or set HF_DATASETS_CACHE."
                ) from error
            finally:
                unfinished.unlink(missing_ok=True)
        if self.announce:
            with pa.OSFile(str(path)) as kept, pa.ipc.open_stream(kept) as reader:
                self.announce(reader.schema)
        return datasets.Dataset.from_file(str(path))

    def where(self, chosen: np.ndarray) -> Source:
        """Return those of the rows that a mask of shape (rows,) chooses."""

        def read(columns: list[str], size: int) -> Iterator[pa.Table]:
            first = 0
            for table in self.read(columns, size):
                yield table.filter(chosen[first : first + len(table)])
                first += len(table)

        return replace(self, read=read, files=None, kept=None)


def in_blocks(tables: Iterable[pa.Table], size: int, limit: int | None = None) -> Iterator[pa.Table]:
    """Yield the same rows in tables of ``size`` rows (fewer in the last), up to a number of rows."""
    held: list[pa.Table] = []
    count, left = 0, limit
    for table in tables:
        part = table if left is None else table.slice(0, left)
        held, count = [*held, part], count + len(part)
        while count >= size:
            whole = pa.concat_tables(held)
            yield whole.slice(0, size)
            held, count = [whole.slice(size)], count - size
        left = None if left is None else left - len(part)
        if left == 0:
            break
    if count:
        yield pa.concat_tables(held)


def refuse_other_columns(found: list[str], expected: list[str], file: Path, first: Path) -> None:
    """Refuse a file whose columns are not those of the first."""
    if found != expected:
        raise UserError(
            f"the file has other columns than {first}",
            where=str(file),
            fix="give files with the same columns in the same order.",
        )
