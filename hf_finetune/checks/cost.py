"""Estimate what training will cost: seconds per epoch measured on a few real steps, memory and disk."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from hf_finetune.activations.cut import CannotCut, find_cut, frozen_depth
from hf_finetune.config import Config
from hf_finetune.data import Splits
from hf_finetune.data.rows.finding import DRAW_SEED, Section, Table
from hf_finetune.memory import peak_memory, reset_peak_memory
from hf_finetune.models import Checkpoint
from hf_finetune.strategies import Phase, Plan, apply_phase, count_weights
from hf_finetune.tasks.task import Task

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
    measured = [_phase_cost(config, task, splits, checkpoint, phase, half) for phase in plan.phases]
    stages = checkpoint.stages
    section.tables.append(_what_trains([stage.name for stage in stages], plan, measured))
    section.tables.append(
        Table(
            "Time and memory",
            ("phase", "epochs", "seconds an epoch", "reading", "computing", "minutes in all", "peak memory"),
            [_time_row(phase, cost) for phase, cost in zip(plan.phases, measured, strict=True)],
        )
    )
    disk = [_disk(splits, checkpoint, phase, cost) for phase, cost in zip(plan.phases, measured, strict=True)]
    section.tables.append(
        Table("Disk", ("phase", "checkpoints", "saved model", "activation cache"), [d[0] for d in disk])
    )
    section.facts["phases"] = [
        {
            "phase": phase.name,
            "epochs": phase.epochs,
            "stages": {
                s.name: {"parameters": size, "train": train}
                for s, size, train in zip(stages, cost["sizes"], cost["trains"], strict=True)
            },
            **{key: cost[key] for key in ("seconds_per_epoch", "read_seconds", "step_seconds", "peak_memory_bytes")},
            **facts,
        }
        for phase, cost, (_, facts) in zip(plan.phases, measured, disk, strict=True)
    ]
    section.sentences.append(
        f"Measured on {_device_name()} over {measured[0]['steps']} steps of {_batch_size(config)} rows a phase, reading and "
        "computing one after the other; evaluation is not counted. Where frozen stages are kept on disk, later epochs are "
        "quicker than the first."
    )
    return section


def _what_trains(stages: list[str], plan: Plan, measured: list[dict[str, Any]]) -> Table:
    columns = ("stage", "parameters", *(f"train in {phase.name}" for phase in plan.phases))
    figures = [measured[0]["sizes"], *(cost["trains"] for cost in measured)]
    rows: list[tuple[Any, ...]] = [
        (name, *(f"{count:,}" for count in counts)) for name, *counts in zip(stages, *figures, strict=True)
    ]
    rows.append(("total", *(f"{sum(counts):,}" for counts in figures)))
    return Table("What trains", columns, rows)


def _batch_size(config: Config) -> int:
    return int(config.training.get("per_device_train_batch_size", 8))


def _phase_cost(
    config: Config, task: Task, splits: Splits, checkpoint: Checkpoint, phase: Phase, half: torch.dtype | None
) -> dict[str, Any]:
    model = checkpoint.model.to(_device())
    apply_phase(model, checkpoint.stages, phase)
    sizes, trains = count_weights(model, checkpoint.stages)
    views = task.input.views(config.inputs, tunes_backbone=phase.adapters or len(phase.trains) > 1)
    sample = _sample(splits.train, _POOL * _batch_size(config))
    collate = task.input.collator(checkpoint.processor)
    began = time.perf_counter()
    rows = task.input.encode(sample, checkpoint.processor, views, "off")
    encoding = (time.perf_counter() - began) / len(sample)
    reset_peak_memory()
    read, step, steps = _time_steps(model, rows, collate, _chosen_batches(rows, _batch_size(config)), half)
    rows_seconds = len(splits.train) * (read + step)
    return {
        "sizes": sizes,
        "trains": trains,
        "read_seconds": len(splits.train) * (read + encoding),
        "step_seconds": len(splits.train) * step,
        "seconds_per_epoch": rows_seconds + len(splits.train) * encoding,
        "steps": steps,
        "peak_memory_bytes": peak_memory(),
        "cache_bytes": _cache_bytes(checkpoint, rows, collate, half, splits),
    }


def _sample(split: Any, most: int) -> Any:
    """Return rows drawn from a split, in memory, so that encoding them leaves no cache files."""
    from datasets import Dataset

    chosen = np.random.default_rng(DRAW_SEED).permutation(len(split))[:most]
    return Dataset.from_dict(split.select(np.sort(chosen))[:], features=split.features)


def _chosen_batches(rows: Any, size: int) -> list[np.ndarray]:
    """Return batches as in training: texts of similar length together."""
    order = np.arange(len(rows))
    if "length" in getattr(rows, "column_names", ()):
        order = np.argsort(np.asarray(rows["length"]), kind="stable")
    whole = max(1, len(order) // size)
    places = np.unique(((np.arange(_STEPS) + 0.5) / _STEPS * whole).astype(int))
    batches = [order[place * size : (place + 1) * size] for place in places]
    return [batches[-1]] * _WARM_UP + batches  # the longest first, so that one-off allocations are not timed


def _time_steps(
    model: Any, rows: Any, collate: Any, batches: list[np.ndarray], half: torch.dtype | None
) -> tuple[float, float, int]:
    """Return seconds per row for reading and for a training step, and the number of timed steps."""
    device = _device()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=0.0, weight_decay=0.0)  # a full step that changes no weight
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    reading = computing = 0.0
    counted = steps = 0
    begun = time.perf_counter()
    for number, indices in enumerate(batches):
        start = time.perf_counter()
        batch = {k: v.to(device) for k, v in collate(rows.__getitems__(indices.tolist())).items()}
        read = time.perf_counter()
        with torch.autocast(device.type, dtype=half) if half is not None else nullcontext():
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
    checkpoint: Checkpoint, rows: Any, collate: Any, half: torch.dtype | None, splits: Splits
) -> int | None:
    """Return the bytes of cached activations of training and validation rows; None if they are not cached."""
    model = checkpoint.model
    depth = frozen_depth(model, checkpoint.stages)
    if depth == 0 or len(rows) < 8:
        return None
    places = np.linspace(0, len(rows) - 1, 8).astype(int)
    batches = [collate(rows.__getitems__(part.tolist())) for part in (places[:5], places[5:])]
    inputs = [{k: v.to(_device()) for k, v in batch.items() if k != "labels"} for batch in batches]
    try:
        with torch.autocast(_device().type, dtype=half) if half is not None else nullcontext():
            cut = find_cut(model, checkpoint.stages, depth, inputs)
    except CannotCut:
        return None
    one = math.prod(cut.cached_shape) * (torch.finfo(cut.dtype if half is None else half).bits // 8)
    vectors = float(np.mean(np.asarray(rows["length"]))) if cut.tokens else 1.0
    kept = len(splits.train) + (0 if splits.validation is None else len(splits.validation))
    return int(one * vectors * kept)


def _time_row(phase: Phase, cost: dict[str, Any]) -> tuple[Any, ...]:
    seconds = cost["seconds_per_epoch"]
    figures = (seconds, cost["read_seconds"], cost["step_seconds"])
    minutes = f"{seconds * phase.epochs / 60:.1f}"
    return (
        phase.name,
        f"{phase.epochs:g}",
        *(f"{figure:.3g}" for figure in figures),
        minutes,
        size(cost["peak_memory_bytes"]),
    )


def _disk(
    splits: Splits, checkpoint: Checkpoint, phase: Phase, cost: dict[str, Any]
) -> tuple[tuple[str, ...], dict[str, int | None]]:
    """Return disk space: two checkpoints (newest and best), each with the weights and AdamW's two moments."""
    weights = sum(p.numel() * p.element_size() for p in checkpoint.model.parameters())
    one = weights + 8 * sum(cost["trains"])
    facts = {"checkpoint_bytes": one, "model_bytes": weights, "activation_cache_bytes": cost["cache_bytes"]}
    cache = "none" if cost["cache_bytes"] is None else size(cost["cache_bytes"])
    return (phase.name, f"2 x {size(one)}", size(weights), cache), facts


def size(count: int) -> str:
    """Return a number of bytes for people: ``1.2 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _device() -> torch.device:
    from accelerate import PartialState

    return PartialState().device


def _device_name() -> str:
    if _device().type == "cuda":
        return torch.cuda.get_device_name()
    return f"this processor with {torch.get_num_threads()} threads"
