"""``--auto_find_batch_size``: a batch that does not fit into memory goes through the model in parts.

The Trainer's own search starts the phase again with a smaller batch, from weights that have already moved, and takes
smaller steps from there. Here the optimiser step that failed is taken again in parts, and every step keeps its rows: the
sampler, the schedule, the number of steps and, but for rounding, the gradients are those of a run with more memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from hf_finetune.console import say
from hf_finetune.errors import UserError

Batch = dict[str, Any]
Backward = Callable[[nn.Module, Batch], torch.Tensor]
UNLIMITED = 1 << 30


class FitInMemory(TrainerCallback, ExportableState):
    """How many rows go through the model at once; halved whenever memory does not hold them.

    One object serves all phases: a phase that trains more needs more memory than the one before, so what did not fit
    there is not tried again. Checkpoints hold the number, so a resumed run goes on in the same parts.

    Args:
        at_once: rows of the largest part.
    """

    def __init__(self, at_once: int = UNLIMITED) -> None:
        self.at_once = at_once
        self._accumulated: list[Batch] = []

    def state(self) -> dict[str, Any]:
        """What the Trainer writes into ``trainer_state.json``."""
        return {"args": {}, "attributes": {"at_once": self.at_once}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take over what the checkpoint that is gone on from had found."""
        stored: Any = state.stateful_callbacks or {}
        if type(self).__name__ in stored:
            self.at_once = stored[type(self).__name__]["attributes"]["at_once"]
        self._accumulated = []

    def save(self, folder: Path) -> None:
        """Leave the number beside the weights of a finished phase."""
        (folder / "rows_at_once.json").write_text(json.dumps(self.at_once))

    def load(self, folder: Path) -> None:
        """Go on with the number of the phase before, where it was looked for."""
        path = folder / "rows_at_once.json"
        if path.exists():
            self.at_once = json.loads(path.read_text())

    def step(self, model: nn.Module, batch: Batch, backward: Backward, *, closes: bool) -> torch.Tensor:
        """Accumulate the gradients of a batch, in parts where it must be.

        An error in the middle of a backward pass leaves some of the gradients summed and some not, so everything that
        was accumulated since the last optimiser step is done again. Processes exchange nothing until all of them are
        through: one that fails must not leave the others waiting.

        Args:
            model: the model, which may be wrapped for several processes.
            batch: tensors whose first dimension is the rows.
            backward: forward and backward pass of a part through the model; returns its share of the loss of the step.
            closes: whether the optimiser steps after this batch; processes then share their gradients.

        Returns:
            The batch's share of the loss of the step.

        Raises:
            UserError: a single row does not fit.
        """
        batches = [*self._accumulated, batch]
        several = isinstance(model, nn.parallel.DistributedDataParallel)
        alone: nn.Module = model.module if several else model
        loss = self._try([batch], alone, backward)
        while loss is None:
            alone.zero_grad()
            loss = self._try(batches, alone, backward)
        self._accumulated = [] if closes else batches
        if closes and several:
            _exchange(alone)
        return loss

    def _try(self, batches: list[Batch], model: nn.Module, backward: Backward) -> torch.Tensor | None:
        """Loss of the last of the batches; None, and fewer rows at once, where they did not fit in some process."""
        loss: torch.Tensor | None = None
        try:
            for batch in batches:
                loss = torch.stack([backward(model, part) for part in parts(batch, self.at_once)]).sum()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            loss = None
        rows = max(_rows(batch) for batch in batches)
        fitting = self.at_once if loss is not None else _half(min(rows, self.at_once))
        agreed = _smallest_of_processes(fitting)
        if agreed == self.at_once:
            return loss
        self._shrink(agreed, rows)
        return None

    def _shrink(self, agreed: int, rows: int) -> None:
        from accelerate.utils.memory import clear_device_cache

        if agreed == 0:
            raise UserError(
                "a single row does not fit into memory",
                where="--auto_find_batch_size",
                fix="make the inputs smaller (--max_length, --image_size), or add --gradient_checkpointing.",
            )
        clear_device_cache(garbage_collection=True)
        tried = min(rows, self.at_once)
        self.at_once = agreed
        say(f"Out of memory with {tried} rows at once: {agreed} from here on. A step has as many rows as before.")


def parts(batch: Batch, at_once: int) -> list[Batch]:
    """A batch as batches of at most so many rows, in their order."""
    rows = _rows(batch)
    if rows <= at_once:
        return [batch]
    cuts = range(0, rows, at_once)
    return [{name: tensor[start : start + at_once] for name, tensor in batch.items()} for start in cuts]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that an accelerator's memory is full. (A CPU's is not reported: the process is killed.)"""
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def _rows(batch: Batch) -> int:
    return len(batch["labels"])


def _half(rows: int) -> int:
    """0 for a single row: there is nothing left to divide."""
    return 0 if rows == 1 else (rows + 1) // 2


def _exchange(model: nn.Module) -> None:
    """What DistributedDataParallel does: gradients are averaged, and the first process's BatchNorm statistics go round."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()
    for buffer in model.buffers():
        torch.distributed.broadcast(buffer, 0)


def _smallest_of_processes(number: int) -> int:
    from accelerate import PartialState

    state = PartialState()
    if state.num_processes == 1:
        return number
    shared = torch.tensor(number, device=state.device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MIN)
    return int(shared)
