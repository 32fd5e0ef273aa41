"""Training-time views of a picture, in the size and scale that the checkpoint's own preprocessing gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from PIL.Image import Image

# The smallest share of a picture that a random crop keeps. ImageNet training takes 0.08; for fine-tuning on small data
# sets that loses the object too often.
SMALLEST_CROP = 0.5


@dataclass(frozen=True)
class Preprocessing:
    """What a processor does to pixels, as measured from its output: size (height, width) and per-channel mean and std.

    Mean and standard deviation are on the scale 0 to 1 of the pixel values.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: int


def measure_preprocessing(processor: Any) -> Preprocessing:
    """Read size, mean and std off what a processor makes of a black and of a white picture.

    Measured and not parsed: processors spell size, crop and scale in a dozen ways, and a crop that is overlooked trains
    a 224-pixel model at 256.
    """
    from PIL import Image

    def output(colour: int) -> torch.Tensor:
        picture = Image.new("RGB", (320, 320), (colour, colour, colour))
        return processor(images=picture, return_tensors="pt")["pixel_values"][0]

    black, white = output(0), output(255)
    height, width = black.shape[-2:]
    low, high = black.mean(dim=(1, 2)), white.mean(dim=(1, 2))
    std = 1 / (high - low)
    resample = getattr(processor, "resample", None)
    if resample is None:  # timm names it
        named = getattr(processor, "data_config", {}).get("interpolation", "bicubic").upper()
        resample = Image.Resampling.__members__.get(named, Image.Resampling.BICUBIC)
    return Preprocessing(
        size=(int(height), int(width)),
        mean=tuple((-low * std).tolist()),
        std=tuple(std.tolist()),
        interpolation=int(resample),
    )


def training_transform(pixels: Preprocessing, augmentation: str, degrees: float) -> Callable[[Image], torch.Tensor]:
    """Random views: ``light`` is a resized crop and a horizontal flip; ``randaug`` adds RandAugment (arXiv 1909.13719)."""
    from torchvision.transforms import InterpolationMode, v2

    modes = {0: "NEAREST", 1: "LANCZOS", 2: "BILINEAR", 3: "BICUBIC"}
    interpolation = InterpolationMode[modes.get(pixels.interpolation, "BICUBIC")]
    if interpolation is InterpolationMode.LANCZOS:
        interpolation = InterpolationMode.BICUBIC  # tensors cannot be resized with LANCZOS
    steps: list[torch.nn.Module] = [rotation(degrees)] if degrees else []
    steps += [
        v2.RandomResizedCrop(pixels.size, (SMALLEST_CROP, 1.0), interpolation=interpolation, antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if augmentation == "randaug":
        steps.append(v2.RandAugment(num_ops=2, magnitude=9))
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(pixels.mean, pixels.std)]
    return v2.Compose(steps)


def rotation(degrees: float) -> torch.nn.Module:
    """Random rotation by up to this angle, either way."""
    from torchvision.transforms import InterpolationMode, v2

    return v2.RandomRotation(degrees, interpolation=InterpolationMode.BILINEAR)
