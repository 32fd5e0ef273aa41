"""Lower bounds on training time: an inference pass over tensors in memory, and a bare loop over prepared batches."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import BatchSampler
from transformers import get_linear_schedule_with_warmup

from hf_finetune.data.batching import EpochSampler
from hf_finetune.models.precision import has_fast_bf16
from hf_finetune.strategies import apply_phase, make_plan, parameter_groups
from hf_finetune.tasks import get_task
from hf_finetune.training import start_run
from measure.rows import read
from measure.sides import now


def inference_pass(**flags: Any) -> dict[str, Any]:
    """Time one pass of training and validation images through the network, 64 at a time, in the precision of ours.

    Args:
        flags: model and data, as for ours.

    Returns:
        ``seconds`` of the pass, ``decode_seconds`` for reading and preprocessing the rows before it, one by one, and
        the number of ``rows``. One batch is passed before the timing starts.
    """
    task = get_task("image-classification")
    config, splits = read("image-classification", flags)
    config = start_run(config)
    checkpoint = task.load_model(config, splits.output, splits.train)
    config, plan = make_plan(config, task, checkpoint, splits)
    began = now()
    sets = [
        task.input.encode(rows, checkpoint.processor) for rows in (splits.train, splits.validation) if rows is not None
    ]
    pixels = torch.stack([rows[index]["pixel_values"] for rows in sets for index in range(len(rows))])
    decode = now() - began
    model = checkpoint.model.eval().to(device())
    if plan.channels_last:
        model.to(memory_format=torch.channels_last)
    with torch.inference_mode(), autocast():
        model(pixel_values=pixels[:64].to(device()))
        began = now()
        for batch in pixels.split(64):
            model(pixel_values=batch.to(device()))
        seconds = now() - began
    return {"seconds": seconds, "decode_seconds": decode, "rows": len(pixels)}


def bare_loop(**flags: Any) -> dict[str, Any]:
    """Time an epoch of ``--strategy full`` on texts without a Trainer: the same batches in order, prepared beforehand.

    Args:
        flags: as for ours.

    Returns:
        ``seconds`` of the loop, and the numbers of ``rows``, ``tokens`` (without padding) and ``steps``.
    """
    task = get_task("text-classification")
    config, splits = read("text-classification", flags)
    config = start_run(config)
    checkpoint = task.load_model(config, splits.output, splits.train)
    config, plan = make_plan(config, task, checkpoint, splits)
    (phase,) = plan.phases
    model, settings = checkpoint.model.to(device()), config.training
    apply_phase(model, checkpoint.stages, phase)
    rows = task.input.encode(splits.train, checkpoint.processor)
    batches = batches_of(rows, task.input.collator(checkpoint.processor), settings["per_device_train_batch_size"])
    groups = parameter_groups(model, checkpoint.stages, phase, settings["weight_decay"])
    optimizer = torch.optim.AdamW(groups, fused=True)
    schedule = get_linear_schedule_with_warmup(
        optimizer, math.ceil(settings["warmup_steps"] * len(batches)), len(batches)
    )
    began = now()
    for batch in batches:
        with autocast():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        F.cross_entropy(logits.float(), batch["labels"], label_smoothing=settings["label_smoothing_factor"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    seconds = now() - began
    return {"seconds": seconds, "rows": len(rows), "tokens": sum(rows["length"]), "steps": len(batches)}


def batches_of(rows: Any, collate: Any, size: int) -> list[dict[str, torch.Tensor]]:
    """Return the batches of our first epoch with the default seed, on the device."""
    sampler = EpochSampler(42, size, lengths=list(rows["length"]))
    batches = [collate([rows[index] for index in indices]) for indices in BatchSampler(sampler, size, drop_last=False)]
    return [{key: value.to(device()) for key, value in batch.items()} for batch in batches]


def autocast() -> Any:
    """Return a bf16 autocast if the hardware supports it."""
    return torch.autocast(device().type, dtype=torch.bfloat16) if has_fast_bf16() else nullcontext()


def device() -> torch.device:
    """Return the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
