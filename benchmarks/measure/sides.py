"""Our side, and the clock of all sides that use a Trainer."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers.trainer
from transformers import TrainerCallback

from hf_finetune.packaged import fine_tune


class Clock(TrainerCallback):
    """Record the seconds of each epoch, and the time at which each step ended. Evaluations and checkpoints come between."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.steps: list[float] = []
        self._began = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock; the data loader is created after this."""
        self._began = now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Record the time without synchronising a GPU, which would slow down the steps."""
        self.steps.append(time.perf_counter())

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock, before evaluation, logging and saving."""
        self.epochs.append(now() - self._began)

    def figures(self) -> dict[str, Any]:
        """Return seconds per epoch, and per step from the end of the first one."""
        steps = len(self.steps) - 1
        return {
            "epoch_seconds": self.epochs,
            "step_seconds": (self.steps[-1] - self.steps[0]) / steps if steps > 0 else None,
        }


def install_clock() -> Clock:
    """Add a clock to each Trainer that this process creates, ours or the plain one, and return it."""
    clock = Clock()
    transformers.trainer.DEFAULT_CALLBACKS.insert(0, clock)
    return clock


def now() -> float:
    """Return the time after the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(task: str, **flags: Any) -> dict[str, Any]:
    """Run the ordinary recipe once, with an empty activation cache.

    Args:
        task: ``text-classification`` or ``image-classification``.
        flags: command-line flags.
    """
    clock = install_clock()
    with TemporaryDirectory() as scratch:
        kept = Path(scratch) / "activations"
        folders = {"output_dir": f"{scratch}/run", "activation_cache_dir": str(kept)}
        metrics = fine_tune(task, disable_tqdm=True, **folders, **flags)
        disk = sum(path.stat().st_size for path in kept.rglob("*") if path.is_file())
    timing = metrics["timing"]
    intervals = metrics.get("test_intervals", {})
    return clock.figures() | {
        "seconds": timing["train_seconds"],
        "trainable": int(timing["trainable_parameters"]),
        "disk_mb": disk / 1e6,
        "accuracy": metrics.get("test", {}).get("accuracy"),
        "f1": metrics.get("test", {}).get("f1"),
        "accuracy_interval": intervals.get("accuracy"),
        "f1_interval": intervals.get("f1"),
        "baseline": metrics.get("baseline", {}).get("accuracy"),
        "f1_validation": metrics.get("validation", {}).get("f1"),
    }


def nothing() -> dict[str, Any]:
    """Import the libraries of our side, to measure their memory."""
    importlib.import_module("hf_finetune.training")
    return {}
