"""Images of a camera's size, and our side with a second clock: for how long the model waits for its next batch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import Trainer

from measure import sides
from measure.models import CLASSES


def make_photographs(folder: str, width: int, height: int, train: int, validation: int) -> None:
    """JPEGs (quality 90) by class: smooth noise with a little grain, some 2 bits a pixel like a camera's."""
    random = np.random.default_rng(0)
    for split, rows in (("train", train), ("validation", validation)):
        for row in range(rows):
            path = Path(folder) / split / f"class{row % CLASSES}" / f"{row}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(random.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
            grain = random.integers(-5, 6, smooth.shape[:2], dtype=np.int16)[..., None]
            Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(path, quality=90)


def ours(**flags: Any) -> dict[str, Any]:
    """As ``sides:ours`` on images, with ``wait_seconds``: the time within training in which a batch is waited for."""
    waited = 0.0
    untimed = Trainer.get_batch_samples

    def timed(self: Trainer, *arguments: Any) -> Any:
        nonlocal waited
        began = time.perf_counter()
        found = untimed(self, *arguments)
        waited += time.perf_counter() - began
        return found

    Trainer.get_batch_samples = timed
    return sides.ours("image-classification", **flags) | {"wait_seconds": waited}
