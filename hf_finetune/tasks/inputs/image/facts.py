"""Facts about model inputs of images. The fresh process of ``verify`` runs this file, so it cannot import this package."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

# Settings of an image processor that change the pixels.
SETTINGS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std", "do_pad", "do_flip_channel_order", "rescale_offset", "include_top",
)  # fmt: skip
TIMM = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
PIXELS = 16  # compared per image


def processor_facts(processor: Any) -> dict[str, Any]:
    if hasattr(processor, "data_config"):  # timm's
        return {name: _plain(processor.data_config.get(name)) for name in TIMM}
    found = {name: _plain(getattr(processor, name, None)) for name in SETTINGS}
    return {name: value for name, value in found.items() if value is not None}


def pipeline_input(item: Any) -> Any:
    """Return what a pipeline takes for an item of a job: it as it is."""
    return item


def input_facts(inputs: Any) -> dict[str, Any]:
    """Return shape, channel statistics and some pixels of one image, from ``pixel_values`` as a batch of one."""
    pixels = inputs["pixel_values"][0].float()
    flat = pixels.flatten()
    return {
        "shape": list(pixels.shape),
        "mean": pixels.mean(dim=(1, 2)).tolist(),
        "std": pixels.std(dim=(1, 2)).tolist(),
        "pixels": flat[:: max(1, len(flat) // PIXELS)][:PIXELS].tolist(),
    }


def _plain(value: Any) -> Any:
    """Return a setting as JSON represents it."""
    value = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    if hasattr(value, "items"):
        return {key: inner for key, inner in value.items() if inner is not None}
    if isinstance(value, tuple):
        return list(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
