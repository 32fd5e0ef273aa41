"""The preprocessing of a checkpoint, measured on its processor, and random training views of the same size.

Views are uint8. They are normalised as a batch, which is many times faster than image by image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

# The smallest share of an image in a random crop. Training on ImageNet uses 0.08, which often loses the object; that
# hurts fine-tuning on small data sets.
SMALLEST_CROP = 0.5


@dataclass(frozen=True)
class Preprocessing:
    """What a processor does to images, as measured from its output; ``mean`` and ``std`` are for pixels from 0 to 1."""

    size: tuple[int, int]  # (height, width) of its output
    mean: tuple[float, ...]  # of each channel
    std: tuple[float, ...]
    interpolation: int  # Pillow's code

    @property
    def source_edge(self) -> int:
        """Shorter edge of the images that views are cut from, so that the smallest crop is not enlarged."""
        return math.ceil(max(self.size) / math.sqrt(SMALLEST_CROP))


def measure_preprocessing(processor: Any) -> Preprocessing:
    """Measure size, mean and standard deviation from the output of a processor for a black and a white image.

    Processors write size, crop and scale in a dozen ways; an overlooked crop would train a 224-pixel model at 256.
    """

    def output(colour: int) -> torch.Tensor:
        image = Image.new("RGB", (320, 320), (colour, colour, colour))
        return processor(images=image, return_tensors="pt")["pixel_values"][0]

    black, white = output(0), output(255)
    height, width = black.shape[-2:]
    low, high = (image.double().mean(dim=(1, 2)) for image in (black, white))
    std = 1 / (high - low)
    resample = getattr(processor, "resample", None)
    if resample is None:  # timm gives a name
        named = getattr(processor, "data_config", {}).get("interpolation", "bicubic").upper()
        resample = Image.Resampling.__members__.get(named, Image.Resampling.BICUBIC)
    return Preprocessing(
        size=(int(height), int(width)),
        mean=tuple((-low * std).tolist()),
        std=tuple(std.tolist()),
        interpolation=int(resample),
    )


def normalise(images: torch.Tensor, pixels: Preprocessing) -> torch.Tensor:
    """Normalise a batch of uint8 images, shape (rows, 3, height, width), to float32 as the processor does."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (pixels.mean, pixels.std))
    return images.contiguous().float().mul_((1 / (255 * std)).float()).add_((-mean / std).float())


def quantise(values: torch.Tensor, pixels: Preprocessing) -> np.ndarray:
    """Return the uint8 pixels that :func:`normalise` turns into these values, shape (3, height, width)."""
    mean, std = (torch.tensor(figures).view(3, 1, 1) for figures in (pixels.mean, pixels.std))
    return values.mul(std).add_(mean).mul_(255).round_().clamp_(0, 255).to(torch.uint8).numpy()


def is_reversible(processor: Any, pixels: Preprocessing) -> bool:
    """Return whether the output of the processor can be stored as uint8: it resizes on uint8, and pads with a colour."""
    for height, width in ((300, 400), (90, 70)):
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        values = processor(images=Image.fromarray(noise), return_tensors="pt")["pixel_values"][0]
        if values.dtype != torch.float32 or values.shape != (3, *pixels.size):
            return False
        again = normalise(torch.from_numpy(quantise(values, pixels))[None], pixels)[0]
        if not torch.allclose(again, values, rtol=0, atol=1e-5):
            return False
    return True


def training_transform(
    pixels: Preprocessing, augmentation: str, degrees: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the transform for random views of a uint8 image of shape (3, height, width).

    ``light`` is a resized crop and a horizontal flip; ``randaug`` adds RandAugment (arXiv 1909.13719).
    """
    from torchvision.transforms import v2

    modes = Image.Resampling.NEAREST, Image.Resampling.BILINEAR  # tensors are resized with these or BICUBIC only
    interpolation = pixels.interpolation if pixels.interpolation in modes else Image.Resampling.BICUBIC
    steps: list[torch.nn.Module] = [_on_image(rotation(degrees))] if degrees else []
    steps += [
        v2.RandomResizedCrop(pixels.size, (SMALLEST_CROP, 1.0), interpolation=int(interpolation), antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if augmentation == "randaug":
        steps.append(_on_image(v2.RandAugment(num_ops=2, magnitude=9)))
    return v2.Compose(steps)


def _on_image(transform: torch.nn.Module) -> torch.nn.Module:
    """Return a transform of tensors through a Pillow image, because Pillow rotates several times as fast on a CPU."""
    from torchvision.transforms import v2

    return v2.Compose([v2.ToPILImage(), transform, v2.PILToTensor()])


def rotation(degrees: float) -> torch.nn.Module:
    """Return a random rotation by up to ``degrees`` in both directions."""
    from torchvision.transforms import InterpolationMode, v2

    return v2.RandomRotation(degrees, interpolation=InterpolationMode.BILINEAR)
