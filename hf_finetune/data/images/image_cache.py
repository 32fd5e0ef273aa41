"""Pixels that were made once are kept for later epochs: in memory or on disk, shared with the loader's workers."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from hf_finetune.console import say
from hf_finetune.data.images.decode import reduced_size
from hf_finetune.errors import first_line
from hf_finetune.files import cache_dir

if TYPE_CHECKING:
    from datasets import Dataset

# Shares of what is free that are taken without being asked.
MEMORY_SHARE = 1 / 4
DISK_SHARE = 1 / 2
_EMPTY, _KEPT, _TURNED = 0, 1, 2


class PixelStore:
    """uint8 pixels of numbered rows in one flat buffer; a row is kept when it is put, and never changed.

    The buffer is a file without a name (in memory or on disk), which all processes that the loader starts see: it is
    gone when the last of them ends, however it ends. One byte a row, written after the pixels, says that they are there.

    Args:
        shapes: int array of shape (rows, 3): what each row's array will be shaped like. A row of size 0 is never kept.
        place: ``"ram"`` or ``"disk"``.

    Raises:
        OSError: there is not so much of it.
    """

    def __init__(self, shapes: np.ndarray, place: str) -> None:
        self.shapes = shapes.astype(np.int64)
        self.bytes = buffer_bytes(shapes)
        self._map(_unnamed_file(self.bytes, place))

    def get(self, row: int) -> np.ndarray | None:
        """The pixels of a row, not copied: for reading only. None where they were not put yet."""
        state = self._filled[row]
        if state == _EMPTY:
            return None
        shape = tuple(int(side) for side in self.shapes[row])
        return self._slot(row).reshape(_turned(shape) if state == _TURNED else shape)

    def put(self, row: int, pixels: np.ndarray) -> None:
        """Keep the pixels of a row, in the expected shape or turned by a quarter; of another shape they are not kept."""
        shape = tuple(int(side) for side in self.shapes[row])
        if not pixels.size or pixels.shape not in (shape, _turned(shape)):
            return
        self._slot(row)[:] = pixels.reshape(-1)
        self._filled[row] = _KEPT if pixels.shape == shape else _TURNED

    def _slot(self, row: int) -> np.ndarray:
        return self._pixels[self._starts[row] : self._starts[row + 1]]

    def _map(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "r+b")  # closes it with the store
        whole = np.frombuffer(mmap.mmap(descriptor, self.bytes), dtype=np.uint8)
        self._filled, self._pixels = whole[: len(self.shapes)], whole[len(self.shapes) :]
        self._starts = np.concatenate([[0], np.cumsum(self.shapes.prod(axis=1))])

    def __getstate__(self) -> dict[str, Any]:
        """Workers that are not forked get the open file, not a copy of it."""
        return {"shapes": self.shapes, "bytes": self.bytes, "file": DupFd(self._file.fileno())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.shapes, self.bytes = state["shapes"], state["bytes"]
        self._map(state["file"].detach())


def buffer_bytes(shapes: np.ndarray) -> int:
    """Size of the buffer for rows of these shapes: their pixels, and a byte each."""
    return int(shapes.astype(np.int64).prod(axis=1).sum()) + len(shapes)


def open_store(shapes: np.ndarray, asked: str, what: str) -> PixelStore | None:
    """The store for rows of these shapes, in the place that was asked for; says what was chosen.

    Images that cannot be kept are decoded anew each time: a run is never stopped for that.

    Args:
        shapes: as for :class:`PixelStore`.
        asked: ``auto``, ``ram``, ``disk`` or ``off``.
        what: the rows, in the sentence.
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
            say(f"{what}: decoded once, kept {'in memory' if place == 'ram' else 'on disk'} ({_size(need)}).")
            return store
    say(f"Warning: {what}: decoded every epoch; keeping them takes {_size(need)} ({why}).")
    return None


def choose_place(asked: str, need: int) -> tuple[str | None, str]:
    """Where so many bytes go: ``ram``, ``disk``, or None with the reason.

    ``auto`` leaves most of what is free alone; who names a place may have all of it. Processes of one machine share.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = {"ram": available_memory() // processes, "disk": free_disk() // processes}
    shares = {"ram": MEMORY_SHARE, "disk": DISK_SHARE} if asked == "auto" else {asked: 1.0}
    for place, share in shares.items():
        if need <= free[place] * share:
            return place, ""
    return None, f"free: {_size(free['ram'])} of memory, {_size(free['disk'])} of disk"


def available_memory() -> int:
    """Bytes that can be had without swapping; a container's own limit counts."""
    import psutil

    available = int(psutil.virtual_memory().available)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        files = [Path("/sys/fs/cgroup", name) for name in (limit, used)]
        values = [file.read_text().strip() for file in files if file.exists()]
        if len(values) == 2 and all(value.isdigit() for value in values):
            available = min(available, max(0, int(values[0]) - int(values[1])))
    return available


def free_disk() -> int:
    """Free bytes where images would be kept."""
    import shutil

    folder = cache_dir()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def source_store(split: Dataset, edge: int, asked: str) -> PixelStore | None:
    """The store of a split's reduced images. All phases of a run read the same one: it lives as long as the split."""
    stores = _sources.setdefault(split, {})
    if (edge, asked) not in stores:
        stores[edge, asked] = open_store(source_shapes(split, edge), asked, f"{len(split)} training images")
    return stores[edge, asked]


_sources: WeakKeyDictionary[Dataset, dict[tuple[int, str], PixelStore | None]] = WeakKeyDictionary()


def source_shapes(split: Dataset, edge: int) -> np.ndarray:
    """Height, width, 3 of every reduced image, before it is turned as EXIF says; from the files' headers."""

    def shape(row: int) -> tuple[int, int, int]:
        size = reduced_size(split[row]["image"], edge)
        return (0, 0, 0) if size is None else (size[1], size[0], 3)

    with ThreadPoolExecutor(max_workers=4) as pool:
        return np.array(list(pool.map(shape, range(len(split)))), dtype=np.int64).reshape(-1, 3)


def read_through(store: PixelStore | None, row: int, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The row's pixels from the store; where they are not in it, they are made, and kept."""
    found = None if store is None else store.get(row)
    if found is None:
        found = make()
        if store is not None:
            store.put(row, found)
    return found


def _unnamed_file(size: int, place: str) -> int:
    """Descriptor of a file of this size that no folder lists."""
    if place == "ram" and hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("images")
    else:  # without memfd_create, a temporary file: the system keeps it in memory as long as it can
        folder = cache_dir() / "images"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder)
        Path(name).unlink()
    try:
        _reserve(descriptor, size, place)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _reserve(descriptor: int, size: int, place: str) -> None:
    """Disk space is taken at once: a full disk found later would end the process, not raise. Memory, page by page."""
    if place == "disk" and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def _turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[1], shape[0], shape[2])


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
