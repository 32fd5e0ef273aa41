"""Images to check a model with: a sample of the run's rows as inputs of a pipeline, and noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hf_finetune.data.images.decode import DECODE_FAULTS, image_facts, open_image
from hf_finetune.tasks.inputs.image.facts import input_facts

LOOKED_AT = 1_000  # image headers that are read to find unusual images
MOST_KINDS = 16


def call_options(processor: Any) -> dict[str, Any]:
    return {}


def odd_rows(rows: Any) -> list[int]:
    """Return the largest and the smallest image, and one image of each file format, pixel format and orientation."""
    looked = np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(int)).tolist()
    facts = {row: image_facts(rows[row]["image"]) for row in looked}
    areas = {row: found.width * found.height for row, found in facts.items()}
    kinds: dict[tuple[Any, ...], int] = {}
    for row, found in facts.items():
        kinds.setdefault((found.format, found.mode, found.exif_orientation), row)
    return [max(areas, key=areas.__getitem__), min(areas, key=areas.__getitem__), *list(kinds.values())[:MOST_KINDS]]


def keep_row(folder: Path, row: int, cells: dict[str, Any], processor: Any) -> dict[str, Any] | str:
    from transformers.image_utils import load_image

    cell = cells["image"]
    content = cell["bytes"] if cell.get("bytes") is not None else Path(cell["path"]).read_bytes()
    file = folder / f"{row}.{image_facts(cell).format.lower()}"
    file.write_bytes(content)
    image = open_image(cell)
    try:
        same = np.array_equal(np.asarray(load_image(str(file))), np.asarray(image))
    except DECODE_FAULTS:
        same = False
    if not same:
        file.unlink()
        return "a pipeline reads them differently: more than 8 bits per channel, L*a*b* colours or broken EXIF data"
    facts = input_facts(processor(images=image, return_tensors="pt"))
    return {"input": file.name, "bytes": len(content), "facts": facts}


def probe(model: Any, processor: Any) -> dict[str, torch.Tensor]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(256, 256, 3), dtype=np.uint8))
    return {"pixel_values": processor(images=[noise], return_tensors="pt")["pixel_values"]}


def longest(batch: dict[str, torch.Tensor], processor: Any) -> dict[str, torch.Tensor]:
    """Return the batch: all images have one size."""
    return batch
