"""Random views of training images, mixup and CutMix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from hf_finetune.config.options import InputConfig


def views(inputs: InputConfig, *, tunes_backbone: bool) -> InputConfig | None:
    """Return the random views of a phase; None for unchanged inputs.

    ``auto`` is ``light`` if part of the backbone trains. A head on frozen features is better without random views, and
    deterministic inputs can be cached.
    """
    if inputs.augmentation == "auto":
        inputs = replace(inputs, augmentation="light" if tunes_backbone else "none")
    return inputs if inputs.augmentation != "none" or inputs.rotation_degrees else None


def mixer(inputs: InputConfig, classes: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that mixes a batch by ``--mixup`` and ``--cutmix``; labels become (rows, classes) probabilities."""
    from timm.data import Mixup

    return partial(mix_batch, Mixup(inputs.mixup, inputs.cutmix, label_smoothing=0.0, num_classes=classes))


def mix_batch(mix: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Apply timm's Mixup, which needs an even number of rows: the last row of an odd batch is not mixed."""
    pixels, labels = batch["pixel_values"], batch["labels"]
    even = len(labels) - len(labels) % 2
    mixed, targets = (
        mix(pixels[:even].clone(), labels[:even]) if even else (pixels[:0], labels.new_zeros(0, mix.num_classes))
    )
    rest = nn.functional.one_hot(labels[even:], mix.num_classes).to(targets.dtype)
    return batch | {"pixel_values": torch.cat([mixed, pixels[even:]]), "labels": torch.cat([targets, rest])}
