"""Activations of a split on disk: NumPy files of some rows each, memory-mapped, every one written whole or not at all.

A file is written beside its place and renamed. So a fill that was cut short goes on where it stopped, processes share the
work without talking, and two runs that fill the same store at once write the same bytes over each other.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_finetune.files import write_json

# Small enough that processes share the work evenly, large enough that a million rows do not make a million files.
_FILES = 64
_FEWEST, _MOST = 32, 4096
_FILE_BYTES = 64 << 20
# Mapped pages count as resident memory until they are given back; the page cache keeps them all the same.
_RESIDENT_BYTES = 256 << 20


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
        item = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.bytes = int(self.offsets[-1]) * item
        self.file_rows = _file_rows(len(lengths), self.bytes)
        self._files: dict[int, np.ndarray] = {}
        self._touched = 0

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
        return [number for number in range(self.files) if self._open(number) is None]

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
        counts = self.offsets[indices + 1] - self.offsets[indices]
        ends = np.concatenate([[0], np.cumsum(counts)])
        out: np.ndarray = np.empty((int(ends[-1]), *self.shape), dtype=_NUMPY[self.dtype])
        for at, index in enumerate(indices):
            number, start = divmod(int(index), self.file_rows)
            base = self.offsets[index - start]
            out[ends[at] : ends[at + 1]] = self._file(number)[
                self.offsets[index] - base : self.offsets[index + 1] - base
            ]
        self._give_back(out.nbytes)
        return torch.from_numpy(out).view(self.dtype)

    def beside(self, lengths: np.ndarray) -> ActivationStore:
        """A small store of one file on the same disk, to try writing and reading on."""
        folder = self.folder.with_name(f"{self.folder.name}.trial-{os.getpid()}")
        trial = ActivationStore(folder, self.shape, self.dtype, lengths, tokens=self.tokens)
        trial.file_rows = len(trial)
        return trial

    def finish(self, facts: dict[str, object]) -> None:
        """Note what the store holds, for people, and that it was used now."""
        if not (self.folder / "about.json").exists():
            write_json(self.folder / "about.json", facts)
        os.utime(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npy"

    def _file(self, number: int) -> np.ndarray:
        content = self._files.get(number)
        content = self._open(number) if content is None else content
        if content is None:
            raise RuntimeError(f"{self._path(number)} is gone")
        return content

    def _open(self, number: int) -> np.ndarray | None:
        if number in self._files:
            return self._files[number]
        rows = self.rows_of(number)
        expected = (int(self.offsets[rows[-1] + 1] - self.offsets[rows[0]]), *self.shape)
        try:
            content = np.load(self._path(number), mmap_mode="r")
        except (FileNotFoundError, ValueError, EOFError):
            return None  # absent, or shorter than its header says
        if content.shape != expected or content.dtype != _NUMPY[self.dtype]:
            return None
        self._files[number] = content
        return content

    def _give_back(self, count: int) -> None:
        self._touched += count
        if self._touched > _RESIDENT_BYTES:
            self._touched = 0
            for content in self._files.values():
                content._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _file_rows(rows: int, size: int) -> int:
    """Rows of a file: a function of the rows and their size alone, so that any number of processes finds the same files."""
    even = min(max(-(-rows // _FILES), _FEWEST), _MOST)
    return max(1, min(even, int(_FILE_BYTES * rows / max(size, 1))))


_NUMPY: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.int16}


def _as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """NumPy has no bfloat16: its bits are kept as integers."""
    plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    return np.ascontiguousarray(plain.numpy())
