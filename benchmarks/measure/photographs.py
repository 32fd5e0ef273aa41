"""Images of camera size, and our side with the time that the model waits for its next batch."""

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
    """Write JPEGs (quality 90) in class folders: smooth noise with a little grain, about 2 bits per pixel as from a camera."""
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
    """Run ``sides:ours`` on images, and add ``wait_seconds``: the time in training spent waiting for batches."""
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
