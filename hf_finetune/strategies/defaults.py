"""Rates, lengths and batch sizes for this backbone and this many rows, each with its reason.

A handful of pure functions of plain facts. The numbers are one rule, from a coarse search on the data sets that
``docs/strategies.md`` names; what that search does not show stands there too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from torch import nn

from hf_finetune.data import Splits
from hf_finetune.data.images.image_cache import available_memory
from hf_finetune.models import Checkpoint

PROBE_RATE = 3e-3
MANY_ROWS = 20_000
# float32 weights, gradients and the two moments of AdamW; what else a step needs must fit into the rest.
BYTES_A_WEIGHT = 16
MEMORY_SHARE = 0.7


@dataclass(frozen=True)
class Facts:
    """What the defaults depend on."""

    convolutional: bool  # whether BatchNorm holds the backbone together
    width: int  # inputs of the classifier
    rows: int  # training rows
    classes: int
    one_class: bool = True  # a row has one class, not several or numbers
    parameters: int = 0  # weights of the model
    memory: int = 1 << 62  # bytes that training may take on its device
    strategy: str = "auto"  # what the user asked for


@dataclass(frozen=True)
class Default:
    """A value, and the sentence that explains it (empty where it needs none)."""

    value: Any
    reason: str = ""


def facts_of(checkpoint: Checkpoint, splits: Splits, strategy: str) -> Facts:
    """Read the facts off a model and its rows."""
    modules = dict(checkpoint.model.named_modules())
    head = [modules[name] for name in checkpoint.stages[-1].modules]
    linear = [module for module in head if isinstance(module, nn.Linear)]
    return Facts(
        convolutional=any(isinstance(module, nn.BatchNorm2d) for module in modules.values()),
        width=linear[0].in_features if linear else 768,
        rows=len(splits.train),
        classes=len(splits.output.names),
        one_class=splits.output.ONE_CLASS,
        parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        memory=device_memory(),
        strategy=strategy,
    )


def device_memory() -> int:
    """Bytes that are free on the GPU that this process trains on, or in memory where there is none."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return available_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def choose_strategy(facts: Facts, suited: Default) -> Default:
    """Return the strategy that runs: the one that was asked for, ``lora`` where memory is short, else the one that suits the task."""
    if facts.strategy != "auto":
        return Default(facts.strategy)
    needed = BYTES_A_WEIGHT * facts.parameters
    if needed > MEMORY_SHARE * facts.memory:
        found = f"{facts.memory / 1e9:.1f} GB are free"
        return Default("lora", f"training all weights takes {needed / 1e9:.1f} GB before the first row, and {found}")
    return suited


def common_defaults(facts: Facts, strategy: str, step: int) -> dict[str, Default]:
    """Return the defaults that do not depend on what a row holds, by the name of the flag.

    Args:
        facts: of model and rows.
        strategy: the one that runs.
        step: rows of an optimiser step.
    """
    rate = learning_rate(facts, strategy, step)
    return {
        "learning_rate": rate,
        "head_learning_rate": Default(rate.value),
        "probe_learning_rate": Default(PROBE_RATE, "a linear head on fixed features is a convex problem"),
        "layer_decay": layer_decay(strategy),
        "epochs": few_epochs(facts),
        "probe_epochs": probe_epochs(strategy),
        "per_device_train_batch_size": batch_size(step),
        # MiniLM on two cores, 1,000 texts by length: 10.7 s of processor time at 64, 12.9 s at 128, 16.6 s at 256.
        "per_device_eval_batch_size": Default(64),
        "warmup_steps": Default(0.1),
        "lr_scheduler_type": Default("linear"),
        "weight_decay": Default(0.01),
        "label_smoothing_factor": Default(0.0),
        "train_sampling_strategy": Default("random"),
    }


def learning_rate(facts: Facts, strategy: str, step: int) -> Default:
    """Peak rate of the backbone, for AdamW."""
    if strategy == "lora":
        return Default(1e-3, "LoRA matrices start at zero and take ten times the rate of full fine-tuning")
    if facts.convolutional:
        return Default(5e-4, "convolutions between BatchNorm layers take higher rates than attention")
    reason = f"1e-4 at width 384 and 16 rows a step; here {facts.width} and {step}"
    return Default(min(3e-4, 1e-4 * 384 / facts.width * step / 16), reason)


def few_epochs(facts: Facts) -> Default:
    """Return the passes over the rows where the backbone trains: fewer where rows are many."""
    return Default(6.0) if facts.rows < MANY_ROWS else Default(3.0, f"there are {facts.rows:,} rows")


def layer_decay(strategy: str) -> Default:
    """Factor on the rate from each stage to the one below. ULMFiT divides by 2.6, but over three layers only."""
    if strategy == "gradual":
        return Default(0.9, "the lower a stage is, the later it is opened and the less it should move")
    return Default(1.0)


def probe_epochs(strategy: str) -> Default:
    """Passes over the rows where the head alone trains."""
    return Default(4.0 if strategy in ("lp_ft", "gradual") else 20.0)


def batch_size(step: int) -> Default:
    """Rows a step and device: the step has the same size in any number of processes."""
    reason = f"{step} rows a step, shared by the processes"
    return Default(max(1, step // int(os.environ.get("WORLD_SIZE", "1"))), reason)
