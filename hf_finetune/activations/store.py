"""Activations of a split on disk: NumPy files of a fixed number of rows, each written atomically.

A file is written under a temporary name and renamed. So an interrupted fill continues where it stopped, processes share
the work without communication, and two runs that fill the same store at once overwrite each other with the same bytes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_finetune.files import write_json

# Enough files to share the work evenly between processes, but not a million files for a million rows.
_FILES = 64
_FEWEST, _MOST = 32, 4096
_FILE_BYTES = 64 << 20
# NumPy has no bfloat16, so its bits are stored as integers.
_NUMPY: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.int16}


class ActivationStore:
    """The activations of all rows of a split, in float32, float16 or bfloat16.

    ``shape`` is that of a row, or with ``tokens`` that of each of its tokens; ``lengths`` has the number of tokens of each
    row, shape (rows,), and otherwise ones. The folder's name identifies the content (``fingerprint.name_store``).
    """

    def __init__(
        self, folder: Path, shape: tuple[int, ...], dtype: torch.dtype, lengths: np.ndarray, *, tokens: bool
    ) -> None:
        self.folder = folder
        self.shape = shape
        self.dtype = dtype
        self.tokens = tokens
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        self._item = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.bytes = int(self.offsets[-1]) * self._item
        # Independent of the number of processes.
        even = min(max(-(-len(lengths) // _FILES), _FEWEST), _MOST)
        self.file_rows = max(1, min(even, int(_FILE_BYTES * len(lengths) / max(self.bytes, 1))))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def files(self) -> int:
        """Number of files of a complete store."""
        return -(-len(self) // self.file_rows)

    def rows_of(self, number: int) -> np.ndarray:
        """Return the indices of the rows in a file."""
        return np.arange(number * self.file_rows, min((number + 1) * self.file_rows, len(self)))

    def missing(self) -> list[int]:
        """Return the numbers of the files that are missing, truncated, or of another shape or type."""
        found = []
        for number in range(self.files):
            try:
                self.open(number)
            except (OSError, ValueError):
                found.append(number)
        return found

    def missing_bytes(self) -> int:
        """Return the total size of the missing files."""
        return sum(self._shape_of(number)[0] for number in self.missing()) * self._item

    def write(self, number: int, activations: torch.Tensor) -> None:
        """Write a file: activations of shape (rows, *shape), or (tokens of all rows, *shape).

        Raises:
            OSError: the disk is full, or the folder cannot be written.
            RuntimeError: the shape is wrong.
        """
        expected = self._shape_of(number)
        if tuple(activations.shape) != expected:
            raise RuntimeError(f"activations have shape {tuple(activations.shape)}, expected {expected}")
        kept = activations.to(self.dtype).cpu()
        plain = kept.view(torch.int16) if self.dtype == torch.bfloat16 else kept
        path = self._path(number)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                np.save(file, np.ascontiguousarray(plain.numpy()))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, indices: np.ndarray) -> torch.Tensor:
        """Return rows in the order of ``indices``: shape (rows, *shape), or (tokens of all rows, *shape)."""
        # No memory mapping: each access would bring up to two megabytes around it into resident memory.
        counts = self.offsets[indices + 1] - self.offsets[indices]
        ends = np.concatenate([[0], np.cumsum(counts)])
        out: np.ndarray = np.empty((int(ends[-1]), *self.shape), dtype=_NUMPY[self.dtype])
        whole = out.reshape(-1).view(np.uint8).data
        for at, index in enumerate(indices):
            number, start = divmod(int(index), self.file_rows)
            _opened(self, number).read(
                whole[ends[at] * self._item : ends[at + 1] * self._item],
                int(self.offsets[index] - self.offsets[index - start]) * self._item,
            )
        return torch.from_numpy(out).view(self.dtype)

    def trial(self, lengths: np.ndarray) -> ActivationStore:
        """Return a small store of one file on the same disk, to measure writing and reading."""
        folder = self.folder.with_name(f"{self.folder.name}.trial-{os.getpid()}")
        trial = ActivationStore(folder, self.shape, self.dtype, lengths, tokens=self.tokens)
        trial.file_rows = len(trial)
        return trial

    def finish(self, facts: dict[str, object]) -> None:
        """Write a description of the store for people, and set its time of last use; the folder may be read-only."""
        with suppress(OSError):
            if not (self.folder / "about.json").exists():
                write_json(self.folder / "about.json", facts)
            os.utime(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npy"

    def _shape_of(self, number: int) -> tuple[int, ...]:
        rows = self.rows_of(number)
        return (int(self.offsets[rows[-1] + 1] - self.offsets[rows[0]]), *self.shape)

    def open(self, number: int) -> _File:
        """Open a file for reading.

        Raises:
            OSError: it cannot be read.
            ValueError: it has another shape or type, or is truncated.
        """
        return _File(self._path(number), self._shape_of(number), np.dtype(_NUMPY[self.dtype]))


class _File:
    """An open NumPy file of known shape and type."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.file = path.open("rb", buffering=0)
        kind = np.lib.format.read_magic(self.file)
        if kind != (1, 0) or np.lib.format.read_array_header_1_0(self.file) != (shape, False, dtype):
            raise ValueError(f"{path} has another shape or type")
        self.start = self.file.tell()
        if os.fstat(self.file.fileno()).st_size != self.start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
            raise ValueError(f"{path} is truncated")

    def read(self, into: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes at ``offset`` after the header."""
        done = 0
        while done < len(into):
            count = os.preadv(self.file.fileno(), [into[done:]], self.start + offset + done)
            if not count:
                raise RuntimeError(f"{self.file.name} was truncated while it was read")
            done += count


@lru_cache(maxsize=128)  # of all stores together; systems allow a process a few hundred open files
def _opened(store: ActivationStore, number: int) -> _File:
    """Return an open file; it is closed when it is dropped from the cache and the last thread has read it."""
    try:
        return store.open(number)
    except (OSError, ValueError) as error:
        raise RuntimeError(f"{store._path(number)} was removed or damaged ({error})") from error
