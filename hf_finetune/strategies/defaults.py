"""Rates, lengths and batch sizes for this backbone and this many rows, each with its reason.

A handful of pure functions of plain facts. The numbers were chosen on the validation splits of the data sets that
``docs/strategies.md`` names, and are one rule for all of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from torch import nn

from hf_finetune.data import Splits
from hf_finetune.models import Checkpoint


STEP_ROWS = 32


@dataclass(frozen=True)
class Facts:
    """What the defaults depend on."""

    kind: str  # "text" or "image"
    convolutional: bool  # whether BatchNorm holds the backbone together
    width: int  # inputs of the classifier
    rows: int  # training rows
    classes: int


@dataclass(frozen=True)
class Default:
    """A value, and the sentence that explains it (empty where it needs none)."""

    value: Any
    reason: str = ""


def facts_of(checkpoint: Checkpoint, splits: Splits, strategy: str) -> Facts:
    """Read the facts off a model and its rows."""
    modules = list(checkpoint.model.modules())
    linear = [module for module in modules if isinstance(module, nn.Linear)]
    return Facts(
        kind="image" if "image" in splits.train.column_names else "text",
        convolutional=any(isinstance(module, nn.BatchNorm2d) for module in modules),
        width=linear[-1].in_features if linear else 0,
        rows=len(splits.train),
        classes=len(splits.labels),
    )


def recommend(facts: Facts, strategy: str) -> dict[str, Default]:
    """All defaults for these facts, by the name of the flag."""
    rate = learning_rate(facts, strategy)
    return {
        "learning_rate": rate,
        "head_learning_rate": head_learning_rate(facts, rate.value),
        "probe_learning_rate": probe_learning_rate(facts),
        "layer_decay": Default(1.0),
        "epochs": epochs(facts),
        "probe_epochs": probe_epochs(facts),
        "per_device_train_batch_size": batch_size(facts),
        "per_device_eval_batch_size": Default(64),
        "warmup_steps": Default(0.1),
        "lr_scheduler_type": Default("linear"),
        "weight_decay": Default(0.01),
        "train_sampling_strategy": Default("group_by_length" if facts.kind == "text" else "random"),
    }


def learning_rate(facts: Facts, strategy: str) -> Default:
    """Peak rate of the backbone."""
    if strategy == "lora":
        return Default(1e-3, "LoRA matrices start at zero and take ten times the rate of full fine-tuning")
    if facts.kind == "text":
        return Default(2e-5 * (1024 / facts.width) if facts.width else 5e-5, "narrow encoders take higher rates")
    return Default(1e-3 if facts.convolutional else 1e-4, "")


def head_learning_rate(facts: Facts, rate: float) -> Default:
    """Peak rate of the fresh head."""
    return Default(max(rate, 1e-3), "the head starts at random and must move further than the backbone")


def probe_learning_rate(facts: Facts) -> Default:
    """Peak rate of a head on a frozen backbone."""
    return Default(1e-2, "a linear probe is convex and takes a high rate")


def epochs(facts: Facts) -> Default:
    """Passes over the rows."""
    return Default(5.0)


def probe_epochs(facts: Facts) -> Default:
    """Passes over the rows for a linear probe."""
    return Default(10.0)


def batch_size(facts: Facts) -> Default:
    """Rows a step and device: the step has the same size in any number of processes."""
    return Default(max(1, STEP_ROWS // int(os.environ.get("WORLD_SIZE", "1"))))
