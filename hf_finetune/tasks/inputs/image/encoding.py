"""Encode images: image processor, image size, random views and batches."""

from __future__ import annotations

import copy
import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

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
from hf_finetune.data.images.decode import open_image, open_reduced, unreadable_images
from hf_finetune.data.images.image_cache import PixelStore, open_store, read_through, source_store
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError, first_line
from hf_finetune.models import Checkpoint, refuse_code

if TYPE_CHECKING:
    from datasets import Dataset


def checkpoint_name(name: str) -> str:
    """Return ``timm/resnet50.a1_in1k`` for timm's name ``resnet50.a1_in1k``; other names unchanged."""
    import timm

    return f"timm/{name}" if "/" not in name and not Path(name).exists() and timm.is_model(name) else name


def prepare(checkpoint: Checkpoint, inputs: InputConfig) -> None:
    """Set the image processor to ``--image_size``, and try one image with processor and model.

    Raises:
        UserError: the model cannot read images of this size, or the output of its processor.
    """
    if inputs.image_size:
        checkpoint.processor = _resize(checkpoint, inputs.image_size)
    _try_image(checkpoint, inputs.image_size)


def load_processor(name: str, **options: Any) -> Any:
    """Return the image processor of a checkpoint, made from ``config.json`` for timm checkpoints.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        refuse_code(error, name)
        raise UserError(
            f"no image processor can be loaded ({first_line(error)})",
            where=f"--model_name_or_path {name}",
            fix="name an image checkpoint with its preprocessor_config.json; a text checkpoint needs the text recipe.",
        ) from error


class Images(torch.utils.data.Dataset):
    """Rows of a split as model inputs; decoded images may be stored for later epochs.

    Each item has ``pixel_values`` of shape (channels, height, width), float32 or, before normalisation, uint8, and
    ``labels`` if the split has them. A random view depends only on the seed, the epoch and the row, not on workers,
    processes, resuming or the store.

    Args:
        split: the rows.
        decode: function from an image cell to an array.
        view: function from that array to a random view; None for the array itself.
        store: where arrays are stored.
    """

    def __init__(
        self,
        split: Any,
        decode: Callable[[Any], np.ndarray],
        view: Callable[[torch.Tensor], torch.Tensor] | None = None,
        store: PixelStore | None = None,
    ) -> None:
        self.split = split
        self.decode = decode
        self.view = view
        self.store = store
        self.labels = split["label"][:] if "label" in getattr(split, "column_names", ()) else None
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
        threads = 1 if torch.utils.data.get_worker_info() else decoding_threads()
        missing = [index for index in indices if self.store is None or self.store.get(index) is None]
        with one_thread():
            if threads == 1 or len(missing) < 2:
                return [self[index] for index in indices]
            with ThreadPoolExecutor(threads) as pool:
                decoded = list(pool.map(self._decoded, indices))
            return [self._item(index, pixels) for index, pixels in zip(indices, decoded, strict=True)]

    def _decoded(self, index: int) -> np.ndarray:
        return read_through(self.store, index, lambda: self.decode(self.split[index]["image"]))

    def _item(self, index: int, decoded: np.ndarray) -> dict[str, Any]:
        pixels = torch.from_numpy(decoded)
        item: dict[str, Any] = {"pixel_values": pixels if self.view is None else self._view(self.view, pixels, index)}
        if self.labels is not None:
            item["labels"] = self.labels[index]
        return item

    def _view(self, view: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor, index: int) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed also seeds GPUs, which takes longer than the view.
            torch.default_generator.manual_seed(
                (self.seed * 1_000_003 + int(self.epoch)) * 1_000_003 + index & 2**63 - 1
            )
            return view(pixels.permute(2, 0, 1))


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one torch thread: synchronising threads after many small steps costs more than the work on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def decoding_threads() -> int:
    """Return the number of decoding threads: this process's share of the cores, at most 4."""
    return max(1, min(4, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def encode(
    split: Any, processor: Any, views: InputConfig | None = None, image_cache: str | None = None
) -> Images | Stream:
    """Return pixels as made by the checkpoint's processor, or random views of the same size and scale.

    Args:
        split: rows with an ``image``.
        processor: the checkpoint's preprocessing.
        views: options of random views; None for none.
        image_cache: where pixels of rows that are read more than once are kept (``off`` for nowhere). Such rows are uint8
            if that is lossless, kept or not. The rows of a stream are decoded when they are read.
    """
    if isinstance(split, Stream):
        images = Images({}, partial(_inputs, processor)) if views is None else _views({}, processor, views, None)
        return split.encoded(partial(_encode_rows, split, images))
    return _plain(split, processor, image_cache) if views is None else _views(split, processor, views, image_cache)


def _views(split: Any, processor: Any, views: InputConfig, image_cache: str | None) -> Images:
    """Return random views; without an ``image_cache`` nothing is kept."""
    pixels = measure_preprocessing(processor)
    store = source_store(split, pixels.source_edge, image_cache) if image_cache else None
    decode = partial(_source, pixels.source_edge)
    if views.augmentation == "none":
        return Images(split, decode, partial(_rotated, rotation(views.rotation_degrees), processor), store)
    transform = training_transform(pixels, views.augmentation, views.rotation_degrees)
    return Images(split, decode, transform, store)


def _encode_rows(stream: Stream, images: Images, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the inputs of a batch of rows as ``images`` makes them, without unreadable rows."""
    from PIL import Image

    batch = copy.copy(images)
    batch.split = {row["row"]: row for row in rows}
    batch.seed = stream.seed
    batch.set_epoch(rows[0]["epoch"])
    try:
        items = batch.__getitems__(list(batch.split))
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        faults = dict(unreadable_images(batch.split, list(batch.split)))
        if not faults:
            raise
        return _encode_rows(stream, images, stream.drop_unreadable(rows, faults))
    return [item | {"labels": row["label"]} for item, row in zip(items, rows, strict=True)]


def _plain(split: Dataset, processor: Any, image_cache: str | None) -> Images:
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


def _source(edge: int, cell: Any) -> np.ndarray:
    return np.array(open_reduced(cell, edge))


def _inputs(processor: Any, cell: Any) -> np.ndarray:
    return _processed(processor, open_image(cell)).numpy()


def _bytes(processor: Any, pixels: Preprocessing, cell: Any) -> np.ndarray:
    return quantise(_processed(processor, open_image(cell)), pixels)


def _processed(processor: Any, image: Any) -> torch.Tensor:
    return processor(images=image, return_tensors="pt")["pixel_values"][0]


def _rotated(rotate: Callable[[Any], Any], processor: Any, pixels: torch.Tensor) -> torch.Tensor:
    from torchvision.transforms.v2.functional import to_pil_image

    return _processed(processor, rotate(to_pil_image(pixels)))


def collator(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return a function that stacks pixels and labels, and scales uint8 pixels as the processor does."""
    return partial(_collate, measure_preprocessing(processor))


def _collate(pixels: Preprocessing, rows: list[dict[str, Any]]) -> dict[str, Any]:
    with one_thread():
        values = torch.stack([row["pixel_values"] for row in rows])
        values = normalise(values, pixels) if values.dtype == torch.uint8 else values
    batch: dict[str, Any] = {"pixel_values": values}
    if "labels" in rows[0]:
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
    return batch


def _resize(checkpoint: Checkpoint, side: int) -> Any:
    """Return the processor with another size, set where the saved model keeps it."""
    processor, model = checkpoint.processor, checkpoint.model
    if hasattr(processor, "data_config"):
        # timm's processor is not saved: it is made from pretrained_cfg in config.json.
        settings = {k: v for k, v in model.config.pretrained_cfg.items() if k != "test_input_size"}
        settings["input_size"] = [settings.get("input_size", [3])[0], side, side]
        model.config.pretrained_cfg = settings
        processor = type(processor)(pretrained_cfg=settings, architecture=model.config.architecture)
    else:
        _resize_processor(processor, side)
    return processor


def _try_image(checkpoint: Checkpoint, side: int | None) -> None:
    """Try processor and model on one grey image before training.

    Raises:
        UserError: the model cannot read the processor's output, at ``--image_size`` if given.
    """
    from transformers.integrations import is_deepspeed_zero3_enabled

    if is_deepspeed_zero3_enabled():  # the weights are partitioned until training begins
        return
    try:
        pixels = checkpoint.processor(images=_grey(side or 64), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            checkpoint.model.eval()(pixel_values=pixels)
    except (RuntimeError, ValueError, AssertionError) as error:
        if side:
            raise UserError(
                f"the checkpoint cannot read images of {side} pixels ({first_line(error)})",
                where="--image_size",
                fix="leave the flag out, or take a checkpoint that was trained at this size.",
            ) from error
        raise UserError(
            f"the model cannot read what its image processor makes ({first_line(error)})",
            where=f"--model_name_or_path {checkpoint.name}",
            fix="correct its preprocessor_config.json, or give --image_size.",
        ) from error


def _resize_processor(processor: Any, side: int) -> None:
    size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
    if "shortest_edge" in size:
        ratio = size["shortest_edge"] / crop["height"] if crop and getattr(processor, "do_center_crop", False) else 1
        processor.size = {"shortest_edge": round(side * ratio)}
    else:
        processor.size = {"height": side, "width": side}
    if crop:
        processor.crop_size = {"height": side, "width": side}


def _grey(side: int) -> Any:
    from PIL import Image

    return Image.new("RGB", (side, side), (128, 128, 128))


class Shortened:
    """A counter of shortened rows; images are never shortened."""

    def add(self, encoded: Any) -> None:
        """Count nothing."""

    def say(self, name: str, processor: Any) -> None:
        """Print nothing."""


def shortened() -> Shortened:
    """Return a counter of shortened images: none."""
    return Shortened()
