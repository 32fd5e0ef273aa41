"""Our side, and the clock that all sides with a Trainer share."""

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
    """Seconds of every epoch, and the time at which every step ended. Evaluations and checkpoints come in between."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.steps: list[float] = []
        self._began = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """The data loader is made after this."""
        self._began = now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Not waited for on a GPU, where that would slow the steps down."""
        self.steps.append(time.perf_counter())

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Evaluation, logging and saving follow."""
        self.epochs.append(now() - self._began)

    def figures(self) -> dict[str, Any]:
        """What the table is made of."""
        steps = len(self.steps) - 1
        return {
            "epoch_seconds": self.epochs,
            "step_seconds": (self.steps[-1] - self.steps[0]) / steps if steps > 0 else None,
        }


def install_clock() -> Clock:
    """A clock in every Trainer that this process makes, ours or the plain one."""
    clock = Clock()
    transformers.trainer.DEFAULT_CALLBACKS.insert(0, clock)
    return clock


def now() -> float:
    """The time when everything that was asked for is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(task: str, **flags: Any) -> dict[str, Any]:
    """One run of the ordinary recipe with an empty activation cache.

    Args:
        task: ``text-classification`` or ``image-classification``.
        flags: of the command line.
    """
    clock = install_clock()
    with TemporaryDirectory() as scratch:
        kept = Path(scratch) / "activations"
        folders = {"output_dir": f"{scratch}/run", "activation_cache_dir": str(kept)}
        metrics = fine_tune(task, disable_tqdm=True, **folders, **flags)
        disk = sum(path.stat().st_size for path in kept.rglob("*") if path.is_file())
    timing = metrics["timing"]
    return clock.figures() | {
        "seconds": timing["train_seconds"],
        "trainable": int(timing["trainable_parameters"]),
        "disk_mb": disk / 1e6,
        "accuracy": metrics.get("test", {}).get("accuracy"),
    }


def nothing() -> dict[str, Any]:
    """What a process needs that has loaded the libraries of our side."""
    importlib.import_module("hf_finetune.training")
    return {}
