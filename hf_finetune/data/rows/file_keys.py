"""Numbers and hashes that identify the files of rows; files are read only if another one has their size."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from hf_finetune.data.rows.duplicates import tables


def file_keys(splits: dict[str, Dataset], column: str) -> dict[str, np.ndarray]:
    """Return a number for each row of each split. Files of unique size get unique numbers."""
    sizes = {name: _sizes(split, column) for name, split in splits.items()}
    values, counts = np.unique(np.concatenate(list(sizes.values())), return_counts=True)
    shared = values[(counts > 1) & (values >= 0)]
    found, unread = {}, 0
    for name, split in splits.items():
        # Unique numbers are small; hashes have the highest bit set.
        found[name] = np.arange(unread, unread + len(split), dtype=np.uint64)
        unread += len(split)
        for row in np.flatnonzero(np.isin(sizes[name], shared)):
            found[name][row] = _hash(split[int(row)][column])
    return found


def _sizes(split: Dataset, column: str) -> np.ndarray:
    """Return the bytes of every file, -1 if missing."""
    sizes: list[int] = []
    for table in tables(split, [column], 1000):
        cells = table[column].combine_chunks()
        embedded = pc.binary_length(pc.struct_field(cells, "bytes")).to_pylist()
        paths = pc.struct_field(cells, "path").to_pylist()
        sizes += [_size(path) if size is None else size for size, path in zip(embedded, paths, strict=True)]
    return np.array(sizes, dtype=np.int64)


def _size(path: str | None) -> int:
    return Path(path).stat().st_size if path is not None and Path(path).is_file() else -1


def _hash(cell: dict[str, Any]) -> int:
    content = Path(cell["path"]).read_bytes() if cell.get("bytes") is None else cell["bytes"]
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") | 1 << 63


def file_identity(cell: dict[str, Any]) -> bytes:
    """Return what identifies a file: path, size and time of the last change, or a hash of embedded bytes."""
    if cell.get("bytes") is not None:
        return hashlib.sha256(cell["bytes"]).digest()
    path = Path(cell["path"]).absolute()
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns};".encode()
