"""The image processor of a checkpoint, set to an image size and tried on one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from hf_finetune.config.options import InputConfig
from hf_finetune.errors import UserError, first_line
from hf_finetune.models import Checkpoint, load_preprocessing


def checkpoint_name(name: str) -> str:
    """Return ``timm/resnet50.a1_in1k`` for timm's name ``resnet50.a1_in1k``; other names unchanged."""
    import timm

    return f"timm/{name}" if "/" not in name and not Path(name).exists() and timm.is_model(name) else name


def load_processor(name: str, **options: Any) -> Any:
    """Return the image processor of a checkpoint; transformers makes that of timm checkpoints from ``config.json``."""
    fix = "name an image checkpoint with its preprocessor_config.json; a text checkpoint needs the text recipe."
    return load_preprocessing("AutoImageProcessor", "image processor", name, fix, **options)


def prepare(checkpoint: Checkpoint, inputs: InputConfig, rows: Any = None) -> None:
    """Set the image processor to ``--image_size``, and try one image with processor and model."""
    if inputs.image_size and hasattr(checkpoint.processor, "data_config"):
        checkpoint.processor = _resized_timm(checkpoint, inputs.image_size)
    elif inputs.image_size:
        _resize(checkpoint.processor, inputs.image_size)
    _try_image(checkpoint, inputs.image_size)


def _resized_timm(checkpoint: Checkpoint, side: int) -> Any:
    """Return timm's processor for another size. It is not saved but made from ``pretrained_cfg`` in ``config.json``."""
    config = checkpoint.model.config
    settings = {name: value for name, value in config.pretrained_cfg.items() if name != "test_input_size"}
    settings["input_size"] = [settings.get("input_size", [3])[0], side, side]
    config.pretrained_cfg = settings
    return type(checkpoint.processor)(pretrained_cfg=settings, architecture=config.architecture)


def _resize(processor: Any, side: int) -> None:
    size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
    if "shortest_edge" in size:
        ratio = size["shortest_edge"] / crop["height"] if crop and getattr(processor, "do_center_crop", False) else 1
        processor.size = {"shortest_edge": round(side * ratio)}
    else:
        processor.size = {"height": side, "width": side}
    if crop:
        processor.crop_size = {"height": side, "width": side}


def _try_image(checkpoint: Checkpoint, side: int | None) -> None:
    """Try processor and model on one grey image before training."""
    from transformers.integrations import is_deepspeed_zero3_enabled

    if is_deepspeed_zero3_enabled():  # the weights are partitioned until training begins
        return
    grey = Image.new("RGB", (side or 64, side or 64), (128, 128, 128))
    try:
        pixels = checkpoint.processor(images=grey, return_tensors="pt")["pixel_values"]
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
