"""Image classification: one picture in, one of several classes out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from hf_finetune.config import Config
from hf_finetune.data.augment import measure_preprocessing, rotation, training_transform
from hf_finetune.data.images import open_image
from hf_finetune.errors import UserError, first_line
from hf_finetune.models import Checkpoint, load_checkpoint
from hf_finetune.options import InputConfig

if TYPE_CHECKING:
    from datasets import Dataset

NAME = "image-classification"
KIND: Literal["text", "image"] = "image"
AUTO_CLASS = "AutoModelForImageClassification"


def load_model(config: Config, labels: list[str]) -> Checkpoint:
    """The vision model with an image-classification head, and its image processor, at ``--image_size`` if one is asked."""
    model = config.model
    model.model_name_or_path = _hub_name(str(model.model_name_or_path))
    processor = load_processor(
        model.model_name_or_path, revision=model.model_revision, trust_remote_code=model.trust_remote_code
    )
    checkpoint = load_checkpoint(model, AUTO_CLASS, labels, processor)
    if config.inputs.image_size:
        checkpoint.processor = _resize(checkpoint, config.inputs.image_size)
    return checkpoint


def load_processor(name: str, **options: Any) -> Any:
    """The image processor of a checkpoint; for timm checkpoints it is read from ``config.json``.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"no image processor can be loaded ({first_line(error)})",
            where=f"--model_name_or_path {name}",
            fix="name an image checkpoint with its preprocessor_config.json; a text checkpoint needs the text recipe.",
        ) from error


class Pictures(torch.utils.data.Dataset):
    """Rows of a split, decoded when they are asked for.

    Each item has ``pixel_values``, float32 of shape (channels, height, width), and ``labels`` where the split has labels.
    A random view depends on the run's seed, the epoch and the row alone: workers, processes and resuming change nothing.
    """

    def __init__(self, split: Dataset, transform: Callable[[Any], torch.Tensor], *, random: bool = False) -> None:
        self.split = split
        self.transform = transform
        self.seed = torch.initial_seed() if random else None
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take other views from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.split[index]
        item: dict[str, Any] = {"pixel_values": self._view(open_image(row["image"]), index)}
        if "label" in row:
            item["labels"] = row["label"]
        return item

    def _view(self, picture: Any, index: int) -> torch.Tensor:
        if self.seed is None:
            return self.transform(picture)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((self.seed * 1_000_003 + self.epoch) * 1_000_003 + index & 2**63 - 1)
            return self.transform(picture)


def encode(split: Dataset, processor: Any, views: InputConfig | None = None) -> Pictures:
    """Pixels as the checkpoint's processor makes them, or random views of them in the same size and scale."""
    plain = partial(_pixels, processor)
    if views is None:
        return Pictures(split, plain)
    if views.augmentation == "none":
        return Pictures(split, partial(_rotated, rotation(views.rotation_degrees), plain), random=True)
    views_of = training_transform(measure_preprocessing(processor), views.augmentation, views.rotation_degrees)
    return Pictures(split, views_of, random=True)


def _pixels(processor: Any, picture: Any) -> torch.Tensor:
    return processor(images=picture, return_tensors="pt")["pixel_values"][0]


def _rotated(rotate: Callable[[Any], Any], pixels: Callable[[Any], torch.Tensor], picture: Any) -> torch.Tensor:
    return pixels(rotate(picture))


def collator(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Stack pixels and labels."""

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = {"pixel_values": torch.stack([row["pixel_values"] for row in rows])}
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch

    return collate


def _hub_name(name: str) -> str:
    """``resnet50.a1_in1k``, as timm says, is ``timm/resnet50.a1_in1k`` on the Hub."""
    import timm

    return f"timm/{name}" if "/" not in name and not Path(name).exists() and timm.is_model(name) else name


def _resize(checkpoint: Checkpoint, side: int) -> Any:
    """The processor at another size, kept where the saved model will carry it; tried on the model at once.

    Raises:
        UserError: the model cannot read pictures of this size.
    """
    processor, model = checkpoint.processor, checkpoint.model
    if hasattr(processor, "data_config"):
        # timm's processor saves nothing itself: it is read from pretrained_cfg in the model's config.json.
        settings = {k: v for k, v in model.config.pretrained_cfg.items() if k != "test_input_size"}
        settings["input_size"] = [settings.get("input_size", [3])[0], side, side]
        model.config.pretrained_cfg = settings
        processor = type(processor)(pretrained_cfg=settings, architecture=model.config.architecture)
    else:
        _resize_processor(processor, side)
    pixels = processor(images=_grey(side), return_tensors="pt")["pixel_values"]
    try:
        with torch.no_grad():
            model.eval()(pixel_values=pixels)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"the checkpoint cannot read pictures of {side} pixels ({first_line(error)})",
            where="--image_size",
            fix="leave the flag out, or take a checkpoint that was trained at this size.",
        ) from error
    return processor


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
