"""Default learning rates, epochs and batch sizes for a model and its rows, each with its reason.

Small pure functions of a few facts. The values come from a coarse search on the data sets in ``docs/strategies.md``, which
also states the limits of that search.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hf_finetune.data import Splits
from hf_finetune.data.images.image_cache import available_memory
from hf_finetune.models import Checkpoint

PROBE_RATE = 3e-3
HIGHEST_RATE = 3e-4  # of attention, in full fine-tuning
MANY_ROWS = 20_000
# float32 weights, gradients and the two moments of AdamW; the rest of the memory is for activations.
BYTES_A_WEIGHT = 16
MEMORY_SHARE = 0.7


@dataclass(frozen=True)
class Facts:
    """What the defaults depend on."""

    convolutional: bool  # whether the backbone has BatchNorm layers
    width: int  # input features of the classifier
    rows: int  # training rows
    classes: int
    one_class: bool = True  # whether a row has one class, not several or numbers
    parameters: int = 0  # weights of the model
    memory: int = 1 << 62  # free bytes on the device
    strategy: str = "auto"  # what the user asked for


@dataclass(frozen=True)
class Default:
    """A value, and the reason for it (may be empty)."""

    value: Any
    reason: str = ""


def facts_of(checkpoint: Checkpoint, splits: Splits, strategy: str) -> Facts:
    """Return the facts about a model and its rows."""
    modules = dict(checkpoint.model.named_modules())
    head = [modules[name] for name in checkpoint.stages[-1].modules]
    linear = [module for module in head if isinstance(module, nn.Linear)]
    if torch.cuda.is_available():
        memory = int(torch.cuda.mem_get_info()[0])
    else:
        memory = available_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Facts(
        convolutional=any(isinstance(module, nn.BatchNorm2d) for module in modules.values()),
        width=linear[0].in_features if linear else 768,
        rows=len(splits.train),
        classes=len(splits.output.names),
        one_class=splits.output.ONE_CLASS,
        parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        memory=memory,
        strategy=strategy,
    )


def choose_strategy(facts: Facts, suited: Default) -> Default:
    """Return the strategy: the user's, ``lora`` if memory is short, else the one that suits the task."""
    if facts.strategy != "auto":
        return Default(facts.strategy)
    needed = BYTES_A_WEIGHT * facts.parameters
    if needed > MEMORY_SHARE * facts.memory:
        free = f"{facts.memory / 1e9:.1f} GB are free"
        return Default("lora", f"training all weights needs {needed / 1e9:.1f} GB plus activations, and {free}")
    return suited


def common_defaults(facts: Facts, strategy: str, step: int) -> dict[str, Default]:
    """Return flag → default for the flags that do not depend on the input; ``step`` is the rows of an optimiser step."""
    rate = _learning_rate(facts, strategy, step)
    many, gradual = facts.rows >= MANY_ROWS, strategy == "gradual"
    return {
        "learning_rate": rate,
        "head_learning_rate": Default(rate.value),
        "probe_learning_rate": Default(PROBE_RATE, "a linear head on fixed features is a convex problem"),
        # Between a stage and the one below it. ULMFiT has 1/2.6, for three layers.
        "layer_decay": Default(0.9, "lower stages are unfrozen later, and should change less")
        if gradual
        else Default(1.0),
        "epochs": Default(3.0, f"there are {facts.rows:,} rows") if many else Default(6.0),
        "probe_epochs": Default(4.0 if gradual or strategy == "lp_ft" else 20.0),
        "per_device_train_batch_size": Default(
            max(1, step // int(os.environ.get("WORLD_SIZE", "1"))),
            f"{step} rows per step, divided among the processes",
        ),
        # MiniLM on two cores, 1,000 texts by length: 10.7 s of processor time at 64, 12.9 s at 128, 16.6 s at 256.
        "per_device_eval_batch_size": Default(64),
        "warmup_steps": Default(0.1),
        "lr_scheduler_type": Default("linear"),
        "weight_decay": Default(0.01),
        "label_smoothing_factor": Default(0.0),
        "train_sampling_strategy": Default("random"),
    }


def _learning_rate(facts: Facts, strategy: str, step: int) -> Default:
    """Return the peak learning rate of the backbone, for AdamW."""
    if strategy == "lora":
        return Default(1e-3, "LoRA matrices start at zero and need ten times the rate of full fine-tuning")
    if facts.convolutional:
        return Default(5e-4, "convolutions with BatchNorm need higher rates than attention")
    reason = f"1e-4 for width 384 and 16 rows per step; here {facts.width} and {step}"
    return Default(min(HIGHEST_RATE, 1e-4 * 384 / facts.width * step / 16), reason)
