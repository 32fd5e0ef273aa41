"""Rates, lengths and batch sizes for this backbone and this many rows, each with its reason.

A handful of pure functions of plain facts. The numbers are one rule, from a coarse search on the data sets that
``docs/strategies.md`` names; what that search does not show stands there too.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from torch import nn

from hf_finetune.data import Splits
from hf_finetune.data.images.image_cache import available_memory
from hf_finetune.data.rows.problem import SINGLE
from hf_finetune.models import Checkpoint

PROBE_RATE = 3e-3
HEAD_FACTOR = 5
MANY_CLASSES = 20
MANY_ROWS = 20_000
# SST-2's first 100 rows: 0.51 after 3 epochs (21 steps), 0.63 after 12; its first 400 rows: 0.79 after 3 (75) as after 6.
FEWEST_STEPS, MOST_EPOCHS = 75, 30
FEW_ROWS_A_CLASS = 10
# float32 weights, gradients and the two moments of AdamW; what else a step needs must fit into the rest.
BYTES_A_WEIGHT = 16
MEMORY_SHARE = 0.7


@dataclass(frozen=True)
class Facts:
    """What the defaults depend on."""

    kind: str  # "text" or "image"
    convolutional: bool  # whether BatchNorm holds the backbone together
    width: int  # inputs of the classifier
    rows: int  # training rows
    classes: int
    one_class: bool = True  # a row has one class, not several or numbers
    parameters: int = 0  # weights of the model
    memory: int = 1 << 62  # bytes that training may take on its device


@dataclass(frozen=True)
class Default:
    """A value, and the sentence that explains it (empty where it needs none)."""

    value: Any
    reason: str = ""


def facts_of(checkpoint: Checkpoint, splits: Splits) -> Facts:
    """Read the facts off a model and its rows."""
    modules = dict(checkpoint.model.named_modules())
    head = [modules[name] for name in checkpoint.stages[-1].modules]
    linear = [module for module in head if isinstance(module, nn.Linear)]
    return Facts(
        kind="image" if "image" in splits.train.column_names else "text",
        convolutional=any(isinstance(module, nn.BatchNorm2d) for module in modules.values()),
        width=linear[0].in_features if linear else 768,
        rows=len(splits.train),
        classes=len(splits.labels),
        one_class=splits.problem == SINGLE,
        parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        memory=device_memory(),
    )


def device_memory() -> int:
    """Bytes that are free on the GPU that this process trains on, or in memory where there is none."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return available_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def recommend_strategy(facts: Facts) -> Default:
    """What runs where the user names no strategy: what the device holds first, then what the rows can teach."""
    needed = BYTES_A_WEIGHT * facts.parameters
    if needed > MEMORY_SHARE * facts.memory:
        found = f"{facts.memory / 1e9:.1f} GB are free"
        return Default("lora", f"training all weights takes {needed / 1e9:.1f} GB before the first row, and {found}")
    if facts.kind == "image":
        rows_a_class = facts.rows / max(1, facts.classes)
        if facts.one_class and rows_a_class < FEW_ROWS_A_CLASS:
            return Default("head", f"{rows_a_class:.0f} rows a class are too few to move a backbone by")
        return Default("lp_ft", "a head that fits before the backbone moves keeps what the backbone has learnt")
    return Default("full", "text encoders gain most when everything trains")


def recommend(facts: Facts, strategy: str) -> dict[str, Default]:
    """All defaults for these facts, by the name of the flag."""
    rate = learning_rate(facts, strategy)
    return {
        "learning_rate": rate,
        "head_learning_rate": head_learning_rate(facts, rate.value),
        "probe_learning_rate": Default(PROBE_RATE, "a linear head on fixed features is a convex problem"),
        "layer_decay": layer_decay(strategy),
        "epochs": epochs(facts),
        "probe_epochs": probe_epochs(strategy),
        "per_device_train_batch_size": batch_size(facts),
        # MiniLM on two cores, 1,000 texts by length: 10.7 s of processor time at 64, 12.9 s at 128, 16.6 s at 256.
        "per_device_eval_batch_size": Default(64),
        "warmup_steps": Default(0.1),
        "lr_scheduler_type": Default("linear"),
        "weight_decay": Default(0.01),
        "label_smoothing_factor": label_smoothing(facts),
        "train_sampling_strategy": Default("group_by_length" if facts.kind == "text" else "random"),
    }


def learning_rate(facts: Facts, strategy: str) -> Default:
    """Peak rate of the backbone, for AdamW."""
    if strategy == "lora":
        return Default(1e-3, "LoRA matrices start at zero and take ten times the rate of full fine-tuning")
    if facts.convolutional:
        return Default(5e-4, "convolutions between BatchNorm layers take higher rates than attention")
    step = step_rows(facts)
    reason = f"1e-4 at width 384 and 16 rows a step; here {facts.width} and {step}"
    return Default(min(3e-4, 1e-4 * 384 / facts.width * step / 16), reason)


def head_learning_rate(facts: Facts, rate: float) -> Default:
    """Peak rate of the head, which starts at random (or, behind the first phase of lp_ft and gradual, from a probe)."""
    if facts.kind == "image":
        return Default(rate)
    return Default(HEAD_FACTOR * rate, "the fresh head has further to go than the backbone")


def layer_decay(strategy: str) -> Default:
    """Factor on the rate from each stage to the one below. ULMFiT divides by 2.6, but over three layers only."""
    if strategy == "gradual":
        return Default(0.9, "the lower a stage is, the later it is opened and the less it should move")
    return Default(1.0)


def epochs(facts: Facts) -> Default:
    """Passes over the rows where the backbone trains."""
    if facts.kind == "image":
        return Default(6.0) if facts.rows < MANY_ROWS else Default(3.0, f"there are {facts.rows:,} rows")
    if facts.rows >= MANY_ROWS:
        return Default(3.0, f"there are {facts.rows:,} rows")
    count = min(8, max(3, round(2 + math.log2(facts.classes))))
    enough = min(MOST_EPOCHS, math.ceil(FEWEST_STEPS * step_rows(facts) / facts.rows))
    if enough > count:
        return Default(
            float(enough), f"{facts.rows:,} rows make few steps an epoch, and an encoder needs {FEWEST_STEPS}"
        )
    return Default(float(count), f"{facts.classes} classes: the more there are, the fewer rows each has")


def probe_epochs(strategy: str) -> Default:
    """Passes over the rows where the head alone trains."""
    return Default(4.0 if strategy in ("lp_ft", "gradual") else 20.0)


def label_smoothing(facts: Facts) -> Default:
    """Share of the target that is spread over all classes."""
    if facts.one_class and facts.kind == "text" and facts.classes >= MANY_CLASSES:
        return Default(0.1, f"many of the {facts.classes} classes are close to each other")
    return Default(0.0)


def step_rows(facts: Facts) -> int:
    """Rows of an optimiser step: texts need the steps more than the speed, until there are many."""
    return 16 if facts.kind == "text" and facts.rows < MANY_ROWS else 32


def batch_size(facts: Facts) -> Default:
    """Rows a step and device: the step has the same size in any number of processes."""
    reason = f"{step_rows(facts)} rows a step, shared by the processes"
    return Default(max(1, step_rows(facts) // int(os.environ.get("WORLD_SIZE", "1"))), reason)
