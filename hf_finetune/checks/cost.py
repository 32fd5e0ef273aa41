"""Estimate what training will cost: seconds per epoch measured on a few real steps, memory and disk."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset

from hf_finetune.activations.cache import probes
from hf_finetune.activations.cut import CannotCut, find_cut, frozen_depth
from hf_finetune.activations.rows import Collate, lengths_of, load_batch
from hf_finetune.config import Config
from hf_finetune.console import byte_size
from hf_finetune.data import Splits
from hf_finetune.data.rows.finding import Section, draw
from hf_finetune.memory import peak_memory, reset_peak_memory
from hf_finetune.models import Checkpoint
from hf_finetune.strategies import Phase, Plan, apply_phase, count_weights
from hf_finetune.tasks.task import Task
from hf_finetune.training.sampling import rows_of_epoch, seldom_read

_STEPS, _WARM_UP = 4, 1
_MOST_SECONDS = 20.0  # of measuring per phase
_POOL = 16  # batches to choose the measured ones from, so that both long and short texts are measured


def check_cost(
    config: Config, task: Task, splits: Splits, checkpoint: Checkpoint, plan: Plan, half: torch.dtype | None
) -> Section:
    """Return the section on cost: time a few training steps of each phase without changing the weights.

    ``half`` is the half-precision type of the forward pass (bfloat16 or float16), or None for float32.
    """
    section = Section("Cost", "cost")
    if plan.channels_last:  # as in training
        checkpoint.model.to(memory_format=torch.channels_last)
    batch_size = int(config.training.get("per_device_train_batch_size", 8))
    count = rows_of_epoch(splits, seldom_read(config, splits))
    measured = [_phase_cost(config, task, splits, checkpoint, phase, half, batch_size, count) for phase in plan.phases]
    phases = [facts for facts, _ in measured]
    _what_trains(section, phases)
    times, disk = [], []
    for each in phases:
        seconds = (f"{each[key]:.3g}" for key in ("seconds_per_epoch", "read_seconds", "step_seconds"))
        minutes = f"{each['seconds_per_epoch'] * each['epochs'] / 60:.1f}"
        peak = byte_size(each["peak_memory_bytes"])
        times.append((each["phase"], f"{each['epochs']:g}", *seconds, minutes, peak))
        checkpoints = f"2 x {byte_size(each['checkpoint_bytes'])}"  # the newest and the best
        cache = "none" if each["activation_cache_bytes"] is None else byte_size(each["activation_cache_bytes"])
        disk.append((each["phase"], checkpoints, byte_size(each["model_bytes"]), cache))
    columns = ("phase", "epochs", "seconds an epoch", "reading", "computing", "minutes in all", "peak memory")
    section.table("Time and memory", columns, times)
    section.table("Disk", ("phase", "checkpoints", "saved model", "activation cache"), disk)
    section.facts["phases"] = phases
    cuda = PartialState().device.type == "cuda"
    device = torch.cuda.get_device_name() if cuda else f"this processor with {torch.get_num_threads()} threads"
    section.sentences.append(
        f"Measured on {device} over {measured[0][1]} steps of {batch_size} rows a phase, reading and "
        "computing one after the other; evaluation is not counted. Where frozen stages are kept on disk, later epochs are "
        "quicker than the first."
    )
    return section


def _what_trains(section: Section, phases: list[dict[str, Any]]) -> None:
    stages = phases[0]["stages"]
    figures = [[stage["parameters"] for stage in stages.values()]]
    figures += [[stage["train"] for stage in phase["stages"].values()] for phase in phases]
    rows = [(name, *(f"{count:,}" for count in counts)) for name, *counts in zip(stages, *figures, strict=True)]
    rows.append(("total", *(f"{sum(counts):,}" for counts in figures)))
    section.table("What trains", ("stage", "parameters", *(f"train in {phase['phase']}" for phase in phases)), rows)


def _phase_cost(
    config: Config,
    task: Task,
    splits: Splits,
    checkpoint: Checkpoint,
    phase: Phase,
    half: torch.dtype | None,
    batch_size: int,
    count: int,
) -> tuple[dict[str, Any], int]:
    """Return the facts of a phase with ``count`` rows an epoch, and the number of timed steps."""
    model, stages = checkpoint.model.to(PartialState().device), checkpoint.stages
    apply_phase(model, stages, phase)
    sizes, trains = count_weights(model, stages)
    views = task.input.views(config.inputs, tunes_backbone=phase.adapters or len(phase.trains) > 1)
    drawn = splits.train.select(draw(len(splits.train), _POOL * batch_size))
    sample = Dataset.from_dict(drawn[:], features=drawn.features)  # in memory: encoding it leaves no cache files
    collate = task.input.collator(checkpoint.processor)
    began = time.perf_counter()
    rows = task.input.encode(sample, checkpoint.processor, views, "off")
    encoding = (time.perf_counter() - began) / len(sample)
    reset_peak_memory()
    read, step, steps = _time_steps(model, rows, collate, _chosen_batches(rows, batch_size), half)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    weighed = zip(stages, sizes, trains, strict=True)
    figures = {stage.name: {"parameters": size, "train": train} for stage, size, train in weighed}
    return {
        "phase": phase.name,
        "epochs": phase.epochs,
        "stages": figures,
        "seconds_per_epoch": count * (read + encoding + step),
        "read_seconds": count * (read + encoding),
        "step_seconds": count * step,
        "peak_memory_bytes": peak_memory(),
        "checkpoint_bytes": weights + 8 * sum(trains),  # AdamW has two moments of each weight
        "model_bytes": weights,
        "activation_cache_bytes": _cache_bytes(checkpoint, rows, collate, half, splits),
    }, steps


def _chosen_batches(rows: Any, size: int) -> list[np.ndarray]:
    """Return batches as in training: texts of similar length together."""
    order = np.argsort(lengths_of(rows), kind="stable")
    whole = max(1, len(order) // size)
    places = np.unique(((np.arange(_STEPS) + 0.5) / _STEPS * whole).astype(int))
    batches = [order[place * size : (place + 1) * size] for place in places]
    return [batches[-1]] * _WARM_UP + batches  # the longest first, so that one-off allocations are not timed


def _time_steps(
    model: Any, rows: Any, collate: Collate, batches: list[np.ndarray], half: torch.dtype | None
) -> tuple[float, float, int]:
    """Return seconds per row for reading and for a training step, and the number of timed steps."""
    device = PartialState().device
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=0.0, weight_decay=0.0)  # a full step that changes no weight
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    reading = computing = 0.0
    counted = steps = 0
    begun = time.perf_counter()
    for number, indices in enumerate(batches):
        start = time.perf_counter()
        batch = {key: value.to(device) for key, value in load_batch(rows, collate, indices).items()}
        read = time.perf_counter()
        with torch.autocast(device.type, half, enabled=half is not None):
            loss = model(**batch).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        done = time.perf_counter()
        if number >= _WARM_UP:
            reading, computing = reading + read - start, computing + done - read
            counted, steps = counted + len(indices), steps + 1
            if done - begun > _MOST_SECONDS:
                break
    with torch.no_grad():  # BatchNorm statistics have changed
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return reading / counted, computing / counted, steps


def _cache_bytes(
    checkpoint: Checkpoint, rows: Any, collate: Collate, half: torch.dtype | None, splits: Splits
) -> int | None:
    """Return the bytes of cached activations of training and validation rows; None if they are not cached."""
    depth = frozen_depth(checkpoint.model, checkpoint.stages)
    if depth == 0 or len(rows) < 2:
        return None
    try:
        with torch.autocast(PartialState().device.type, half, enabled=half is not None):
            cut = find_cut(checkpoint.model, checkpoint.stages, depth, probes(rows, collate))
    except CannotCut:
        return None
    one = math.prod(cut.cached_shape) * (cut.dtype if half is None else half).itemsize
    vectors = float(np.mean(lengths_of(rows))) if cut.tokens else 1.0
    return int(one * vectors * sum(len(split) for name, split in splits.items() if name != "test"))
