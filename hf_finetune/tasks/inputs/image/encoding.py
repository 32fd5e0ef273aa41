"""Encode images: decoded pixels or random views of them, batches, mixup and CutMix; hashes for the names of caches."""

from __future__ import annotations

import copy
import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_finetune.config.options import InputConfig
from hf_finetune.console import say
from hf_finetune.data.images.augment import (
    Preprocessing,
    is_reversible,
    measure_preprocessing,
    normalise,
    quantise,
    rotation,
    training_transform,
)
from hf_finetune.data.images.decode import DECODE_FAULTS, open_image, open_reduced, unreadable_images
from hf_finetune.data.images.image_cache import PixelStore, open_store, read_through, source_store
from hf_finetune.data.rows.file_keys import file_identity
from hf_finetune.data.splits.stream import Stream
from hf_finetune.tasks.task import Shortened


@dataclass(eq=False)
class Images(torch.utils.data.Dataset):
    """Rows of a split as model inputs; decoded images may be stored for later epochs.

    Each item has ``pixel_values`` of shape (channels, height, width), float32 or, before normalisation, uint8, and
    ``labels`` if the split has them. A random view depends only on the seed, the epoch and the row, not on workers,
    processes, resuming or the store.
    """

    split: Any
    decode: Callable[[Any], np.ndarray]  # from an image cell to an array
    view: Callable[[torch.Tensor], torch.Tensor] | None = None  # from that array to a random view of it
    store: PixelStore | None = None  # of these arrays

    def __post_init__(self) -> None:
        self.labels = self.split["label"][:] if "label" in getattr(self.split, "column_names", ()) else None
        self.seed = torch.initial_seed()
        # In shared memory, because persistent workers see later epochs.
        self.epoch = torch.frombuffer(mmap.mmap(-1, 8), dtype=torch.int64)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which random views depend."""
        self.epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._item(index, self._decoded(index))

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Return a batch of rows; without workers, decode the images in threads."""
        share = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of this process, in cores
        threads = 1 if torch.utils.data.get_worker_info() else min(4, share)
        missing = [index for index in indices if self.store is None or self.store.get(index) is None]
        with _one_thread():
            if threads <= 1 or len(missing) < 2:
                return [self[index] for index in indices]
            with ThreadPoolExecutor(threads) as pool:
                return list(map(self._item, indices, pool.map(self._decoded, indices)))

    def _decoded(self, index: int) -> np.ndarray:
        return read_through(self.store, index, lambda: self.decode(self.split[index]["image"]))

    def _item(self, index: int, decoded: np.ndarray) -> dict[str, Any]:
        pixels = torch.from_numpy(decoded)
        if self.view is not None:
            with torch.random.fork_rng(devices=[]):
                seed = (self.seed * 1_000_003 + int(self.epoch)) * 1_000_003 + index & 2**63 - 1
                # torch.manual_seed also seeds GPUs, which takes longer than the view.
                torch.default_generator.manual_seed(seed)
                pixels = self.view(pixels.permute(2, 0, 1))
        return {"pixel_values": pixels} | ({} if self.labels is None else {"labels": self.labels[index]})


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one torch thread: synchronising threads after many small steps costs more than the work on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def encode(
    split: Any, processor: Any, views: InputConfig | None = None, image_cache: str | None = None
) -> Images | Stream:
    """Return pixels as made by the checkpoint's processor, or random views of the same size and scale.

    ``image_cache`` is where pixels of rows that are read more than once are kept (``off`` for nowhere). Such rows are uint8
    if that is lossless, kept or not.
    """
    if isinstance(split, Stream):
        return split.encoded(partial(_encode_rows, split, encode({}, processor, views)))
    if views is None:
        return _plain(split, processor, image_cache)
    pixels = measure_preprocessing(processor)
    store = source_store(split, pixels.source_edge, image_cache) if image_cache else None
    if views.augmentation == "none":
        view: Any = partial(_rotated, rotation(views.rotation_degrees), processor)
    else:
        view = training_transform(pixels, views.augmentation, views.rotation_degrees)
    return Images(split, partial(_reduced, pixels.source_edge), view, store)


def _encode_rows(stream: Stream, images: Images, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the inputs of a batch of rows as ``images`` makes them, without unreadable rows."""
    batch = copy.copy(images)
    batch.split = {row["row"]: row for row in rows}
    batch.seed = stream.seed
    batch.set_epoch(rows[0]["epoch"])
    try:
        items = batch.__getitems__(list(batch.split))
    except DECODE_FAULTS:
        faults = dict(unreadable_images(batch.split, list(batch.split)))
        if not faults:
            raise
        return _encode_rows(stream, images, stream.drop_unreadable(rows, faults))
    return [item | {"labels": row["label"]} for item, row in zip(items, rows, strict=True)]


def _plain(split: Any, processor: Any, image_cache: str | None) -> Images:
    """Return images with full decoding and the processor's resize, as in ``pipeline()``."""
    if image_cache is None:
        return Images(split, partial(_inputs, processor))
    pixels = measure_preprocessing(processor)
    if not is_reversible(processor, pixels):
        say("The processor's pixels cannot be kept as bytes without loss: they are computed every time.")
        return Images(split, partial(_inputs, processor))
    shapes = np.tile([3, *pixels.size], (len(split), 1))
    store = open_store(shapes, image_cache, f"{len(split)} images at the model's size")
    return Images(split, partial(_bytes, processor, pixels), store=store)


# Functions of the module, because workers that are not forked unpickle them.
def _reduced(edge: int, cell: Any) -> np.ndarray:
    return np.array(open_reduced(cell, edge))


def _inputs(processor: Any, cell: Any) -> np.ndarray:
    return _processed(processor, open_image(cell)).numpy()


def _bytes(processor: Any, pixels: Preprocessing, cell: Any) -> np.ndarray:
    return quantise(_processed(processor, open_image(cell)), pixels)


def _rotated(rotate: Callable[[Any], Any], processor: Any, pixels: torch.Tensor) -> torch.Tensor:
    from torchvision.transforms.v2.functional import to_pil_image

    return _processed(processor, rotate(to_pil_image(pixels)))


def _processed(processor: Any, image: Any) -> torch.Tensor:
    return processor(images=image, return_tensors="pt")["pixel_values"][0]


def collator(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return a function that stacks pixels and labels, and scales uint8 pixels as the processor does."""
    return partial(_collate, measure_preprocessing(processor))


def _collate(pixels: Preprocessing, rows: list[dict[str, Any]]) -> dict[str, Any]:
    with _one_thread():
        values = torch.stack([row["pixel_values"] for row in rows])
        values = normalise(values, pixels) if values.dtype == torch.uint8 else values
    labels = {"labels": torch.tensor([row["labels"] for row in rows])} if "labels" in rows[0] else {}
    return {"pixel_values": values} | labels


def fingerprint(encoded: Any, processor: Any) -> str:
    """Return a hash of the images and of the processor's settings; files count by path, size and time of the last change."""
    digest = hashlib.sha256()
    for batch in encoded.split.select_columns(["image"]).with_format("arrow").iter(1000):
        for cell in batch["image"].to_pylist():
            digest.update(file_identity(cell))
    digest.update(describe_processor(processor).encode())
    return digest.hexdigest()


def describe_processor(processor: Any) -> str:
    if hasattr(processor, "data_config"):  # timm's
        return json.dumps(processor.data_config, sort_keys=True, default=str)
    return json.dumps(processor.to_dict(), sort_keys=True, default=str) if hasattr(processor, "to_dict") else ""


def views(inputs: InputConfig, *, tunes_backbone: bool) -> InputConfig | None:
    """Return the random views of a phase; ``auto`` is ``light`` if part of the backbone trains.

    A head on frozen features is better without random views, and deterministic inputs can be cached.
    """
    if inputs.augmentation == "auto":
        inputs = replace(inputs, augmentation="light" if tunes_backbone else "none")
    return inputs if inputs.augmentation != "none" or inputs.rotation_degrees else None


def mixer(inputs: InputConfig, classes: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    from timm.data import Mixup

    return partial(mix_batch, Mixup(inputs.mixup, inputs.cutmix, label_smoothing=0.0, num_classes=classes))


def mix_batch(mix: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Apply timm's Mixup, which needs an even number of rows: the last row of an odd batch is not mixed."""
    pixels, labels = batch["pixel_values"], batch["labels"]
    even = len(labels) - len(labels) % 2
    mixed, targets = pixels[:0], labels.new_zeros(0, mix.num_classes)
    if even:
        mixed, targets = mix(pixels[:even].clone(), labels[:even])
    rest = nn.functional.one_hot(labels[even:], mix.num_classes).to(targets.dtype)
    return batch | {"pixel_values": torch.cat([mixed, pixels[even:]]), "labels": torch.cat([targets, rest])}


def shortened() -> Shortened:
    return Shortened()
