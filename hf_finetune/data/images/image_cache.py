"""A cache of decoded images for later epochs, in memory or on disk, shared with the workers of the data loader."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import psutil
from datasets import Dataset

from hf_finetune.console import byte_size, say
from hf_finetune.data.images.decode import reduced_size
from hf_finetune.errors import first_line
from hf_finetune.files import cache_dir

SHARES = {"ram": 1 / 4, "disk": 1 / 2}  # of the free memory and disk, which ``auto`` uses
_EMPTY, _KEPT, _TURNED = 0, 1, 2


class PixelStore:
    """uint8 pixels of rows in one flat buffer; a row is written once.

    The buffer is a file without a name, in memory or on disk. All workers of the data loader share it, and the system
    frees it when the last process ends. One byte per row, written after the pixels, marks the row as present.

    Args:
        shapes: shape of each row's array, an int array of shape (rows, 3). Rows of size 0 are not stored.
        place: ``"ram"`` or ``"disk"``.

    Raises:
        OSError: there is not enough space.
    """

    def __init__(self, shapes: np.ndarray, place: str) -> None:
        self.shapes = shapes.astype(np.int64)
        self.bytes = buffer_bytes(shapes)
        self._map(_unnamed_file(self.bytes, place))

    def get(self, row: int) -> np.ndarray | None:
        """Return the pixels of a row without a copy, to read only; None if they are not stored yet."""
        state = self._filled[row]
        if state == _EMPTY:
            return None
        height, width, channels = self.shapes[row]
        return self._slot(row).reshape((width, height, channels) if state == _TURNED else (height, width, channels))

    def put(self, row: int, pixels: np.ndarray) -> None:
        """Store the pixels of a row if they have the expected shape, or that shape rotated by 90 degrees."""
        height, width, channels = self.shapes[row]
        if pixels.size and pixels.shape in ((height, width, channels), (width, height, channels)):
            self._slot(row)[:] = pixels.reshape(-1)
            self._filled[row] = _KEPT if pixels.shape == (height, width, channels) else _TURNED

    def _slot(self, row: int) -> np.ndarray:
        return self._pixels[self._starts[row] : self._starts[row + 1]]

    def _map(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "r+b")  # is closed with the store
        whole = np.frombuffer(mmap.mmap(descriptor, self.bytes), dtype=np.uint8)
        self._filled, self._pixels = whole[: len(self.shapes)], whole[len(self.shapes) :]
        self._starts = np.concatenate([[0], np.cumsum(self.shapes.prod(axis=1))])

    def __getstate__(self) -> dict[str, Any]:
        """Pass the open file to workers that are not forked."""
        return {"shapes": self.shapes, "bytes": self.bytes, "file": DupFd(self._file.fileno())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.shapes, self.bytes = state["shapes"], state["bytes"]
        self._map(state["file"].detach())


def buffer_bytes(shapes: np.ndarray) -> int:
    """Return the size of the buffer: the pixels of all rows, and one byte per row."""
    return int(shapes.astype(np.int64).prod(axis=1).sum()) + len(shapes)


def open_store(shapes: np.ndarray, asked: str, what: str) -> PixelStore | None:
    """Return a store for rows, and print where it is; None if it is off or there is not enough space.

    ``asked`` is ``auto``, ``ram``, ``disk`` or ``off``; ``what`` names the rows in the message.
    """
    if asked == "off" or not len(shapes):
        return None
    need = buffer_bytes(shapes)
    place, why = choose_place(asked, need)
    if place is not None:
        try:
            store = PixelStore(shapes, place)
        except (OSError, MemoryError, OverflowError) as error:
            why = first_line(error)
        else:
            say(f"{what}: decoded once and cached {'in memory' if place == 'ram' else 'on disk'} ({byte_size(need)}).")
            return store
    say(f"Warning: {what}: decoded in every epoch, because the cache needs {byte_size(need)} ({why}).")
    return None


def choose_place(asked: str, need: int) -> tuple[str | None, str]:
    """Return the place for ``need`` bytes, ``ram`` or ``disk``; or None and the reason.

    ``auto`` uses a part of the free space only, a named place all of it. Processes of one machine share the space.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = {"ram": available_memory() // processes, "disk": free_disk() // processes}
    for place, share in (SHARES if asked == "auto" else {asked: 1.0}).items():
        if need <= free[place] * share:
            return place, ""
    return None, f"free: {byte_size(free['ram'])} of memory, {byte_size(free['disk'])} of disk"


def available_memory() -> int:
    """Return the bytes that are available without swapping, within the limit of a container."""
    available = int(psutil.virtual_memory().available)
    for names in ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"):
        files = [Path("/sys/fs/cgroup", name) for name in names]
        values = [file.read_text().strip() for file in files if file.exists()]
        if len(values) == 2 and all(value.isdigit() for value in values):
            available = min(available, max(0, int(values[0]) - int(values[1])))
    return available


def free_disk() -> int:
    """Return the free bytes on the disk of the cache."""
    folder = cache_dir()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def source_store(split: Dataset, edge: int, asked: str) -> PixelStore | None:
    """Return the store of a split's reduced images; all phases of a run share it."""
    stores = _sources.setdefault(split, {})
    if (edge, asked) not in stores:
        stores[edge, asked] = open_store(source_shapes(split, edge), asked, f"{len(split)} training images")
    return stores[edge, asked]


_sources: WeakKeyDictionary[Dataset, dict[tuple[int, str], PixelStore | None]] = WeakKeyDictionary()


def source_shapes(split: Dataset, edge: int) -> np.ndarray:
    """Return (height, width, 3) of every reduced image from the file headers, before EXIF rotation."""

    def shape(row: int) -> tuple[int, int, int]:
        size = reduced_size(split[row]["image"], edge)
        return (0, 0, 0) if size is None else (size[1], size[0], 3)

    with ThreadPoolExecutor(max_workers=4) as pool:
        return np.array(list(pool.map(shape, range(len(split)))), dtype=np.int64).reshape(-1, 3)


def read_through(store: PixelStore | None, row: int, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return a row's pixels from the store; if they are missing, make and store them."""
    found = None if store is None else store.get(row)
    if found is None:
        found = make()
        if store is not None:
            store.put(row, found)
    return found


def _unnamed_file(size: int, place: str) -> int:
    """Return the descriptor of a file of this size that is in no folder."""
    if place == "ram" and hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("images")
    else:  # without memfd_create, a temporary file, which the system caches in memory
        folder = cache_dir() / "images"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder)
        Path(name).unlink()
    try:
        if place == "disk" and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)  # at once: writing to a full disk later would kill the process
        else:
            os.ftruncate(descriptor, size)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
