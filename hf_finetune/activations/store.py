"""Activations of a split on disk: NumPy files of some rows each, every one written whole or not at all.

A file is written beside its place and renamed. So a fill that was cut short goes on where it stopped, processes share the
work without talking, and two runs that fill the same store at once write the same bytes over each other.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_finetune.files import write_json

# Small enough that processes share the work evenly, large enough that a million rows do not make a million files.
_FILES = 64
_FEWEST, _MOST = 32, 4096
_FILE_BYTES = 64 << 20
_OPEN = 128  # files at once, of all stores together; systems allow a process some hundreds


class ActivationStore:
    """What was kept of every row of a split.

    Args:
        folder: its place, named by what it holds.
        shape: of a row, or of a token of it.
        dtype: float32, float16 or bfloat16.
        lengths: tokens of each row, shape (rows,); ones where a row is kept as a whole.
        tokens: whether a row keeps one vector a token.
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
        self.file_rows = _file_rows(len(lengths), self.bytes)
        self._own = object()  # tells its open files from those of other stores

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def files(self) -> int:
        """Number of files that a whole store has."""
        return -(-len(self) // self.file_rows)

    def rows_of(self, number: int) -> np.ndarray:
        """Indices of the rows that stand in a file."""
        return np.arange(number * self.file_rows, min((number + 1) * self.file_rows, len(self)))

    def missing(self) -> list[int]:
        """Files that are not there, or not whole."""
        return [number for number in range(self.files) if self._open(number, keep=False) is None]

    def missing_bytes(self) -> int:
        """What those files will hold."""
        ends = [(rows[0], rows[-1] + 1) for rows in map(self.rows_of, self.missing())]
        return int(sum(self.offsets[end] - self.offsets[start] for start, end in ends)) * self._item

    def write(self, number: int, kept: torch.Tensor) -> None:
        """Write the rows of a file: shape (rows, *shape), or (tokens of all rows, *shape).

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        rows = self.rows_of(number)
        expected = (int(self.offsets[rows[-1] + 1] - self.offsets[rows[0]]), *self.shape)
        if tuple(kept.shape) != expected:
            raise RuntimeError(f"activations of shape {tuple(kept.shape)} came for rows that have {expected}")
        path = self._path(number)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                np.save(file, _as_numpy(kept.to(self.dtype).cpu()))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, indices: np.ndarray) -> torch.Tensor:
        """The rows in the order of ``indices``: shape (rows, *shape), or all their tokens one after the other."""
        # Read, not mapped: a page that is touched would bring up to two megabytes around it into resident memory.
        counts = self.offsets[indices + 1] - self.offsets[indices]
        ends = np.concatenate([[0], np.cumsum(counts)])
        out: np.ndarray = np.empty((int(ends[-1]), *self.shape), dtype=_NUMPY[self.dtype])
        whole = out.reshape(-1).view(np.uint8).data
        for at, index in enumerate(indices):
            number, start = divmod(int(index), self.file_rows)
            self._file(number).read(
                whole[ends[at] * self._item : ends[at + 1] * self._item],
                int(self.offsets[index] - self.offsets[index - start]) * self._item,
            )
        return torch.from_numpy(out).view(self.dtype)

    def beside(self, lengths: np.ndarray) -> ActivationStore:
        """A small store of one file on the same disk, to try writing and reading on."""
        folder = self.folder.with_name(f"{self.folder.name}.trial-{os.getpid()}")
        trial = ActivationStore(folder, self.shape, self.dtype, lengths, tokens=self.tokens)
        trial.file_rows = len(trial)
        return trial

    def finish(self, facts: dict[str, object]) -> None:
        """Note what the store holds, for people, and that it was used now; whole stores may be read-only."""
        with suppress(OSError):
            if not (self.folder / "about.json").exists():
                write_json(self.folder / "about.json", facts)
            os.utime(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npy"

    def _file(self, number: int) -> _File:
        found = _files.get((self._own, number)) or self._open(number)
        if found is None:
            raise RuntimeError(f"{self._path(number)} is gone")
        return found

    def _open(self, number: int, *, keep: bool = True) -> _File | None:
        rows = self.rows_of(number)
        expected = (int(self.offsets[rows[-1] + 1] - self.offsets[rows[0]]), *self.shape)
        try:
            found = _File(self._path(number), expected, np.dtype(_NUMPY[self.dtype]))
        except (OSError, ValueError):
            return None  # absent, cut short, or of something else
        if keep:
            with _lock:
                while len(_files) >= _OPEN:
                    del _files[next(iter(_files))]  # closed when the last thread that reads it is done
                _files[self._own, number] = found
        return found


class _File:
    """An open NumPy file of known shape and type.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else, or less.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.file = path.open("rb", buffering=0)
        kind = np.lib.format.read_magic(self.file)
        if kind != (1, 0) or np.lib.format.read_array_header_1_0(self.file) != (shape, False, dtype):
            raise ValueError(f"{path} holds something else")
        self.start = self.file.tell()
        if os.fstat(self.file.fileno()).st_size != self.start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
            raise ValueError(f"{path} was cut short")

    def read(self, into: memoryview, offset: int) -> None:
        """Fill a buffer with what stands at a place, in bytes behind the header."""
        done = 0
        while done < len(into):
            count = os.preadv(self.file.fileno(), [into[done:]], self.start + offset + done)
            if not count:
                raise RuntimeError(f"{self.file.name} became shorter")
            done += count


_files: dict[tuple[object, int], _File] = {}
_lock = threading.Lock()


def _file_rows(rows: int, size: int) -> int:
    """Rows of a file: a function of the rows and their size alone, so that any number of processes finds the same files."""
    even = min(max(-(-rows // _FILES), _FEWEST), _MOST)
    return max(1, min(even, int(_FILE_BYTES * rows / max(size, 1))))


_NUMPY: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.int16}


def _as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """NumPy has no bfloat16: its bits are kept as integers."""
    plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    return np.ascontiguousarray(plain.numpy())
