"""``--auto_find_batch_size``: a batch that does not fit into memory is computed in parts.

The Trainer's own search restarts the phase with a smaller batch, from weights that have already changed. Here the
optimiser step that failed is repeated in parts, and no step loses rows: sampler, schedule, number of steps and, up to
rounding, gradients are those of a run with more memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import nn
from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ExportableState

from hf_finetune.console import say
from hf_finetune.errors import UserError

Batch = dict[str, Any]
Backward = Callable[[nn.Module, Batch], torch.Tensor]


class FitInMemory(TrainerCallback, ExportableState):
    """Computes batches in parts, and halves the largest part whenever memory is full.

    One object serves all phases: later phases train more, and need no less memory. Checkpoints store the size of a
    part (``at_once``, in rows), and so do finished phases, so a resumed phase continues with it.
    """

    def __init__(self, at_once: int = 1 << 30) -> None:
        self.at_once = at_once
        self._accumulated: list[Batch] = []

    def state(self) -> dict[str, Any]:
        """Return what the Trainer writes into ``trainer_state.json``."""
        return {"args": {}, "attributes": {"at_once": self.at_once}}

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Restore the size of a part from the checkpoint of a resumed phase."""
        stored: Any = state.stateful_callbacks or {}
        if type(self).__name__ in stored:
            self.at_once = stored[type(self).__name__]["attributes"]["at_once"]
        self._accumulated = []

    def save(self, folder: Path) -> None:
        """Write the size of a part into the folder of a finished phase."""
        (folder / "rows_at_once.json").write_text(json.dumps(self.at_once))

    def load(self, folder: Path) -> None:
        """Read the size of a part that an earlier phase wrote, if any."""
        path = folder / "rows_at_once.json"
        self.at_once = json.loads(path.read_text()) if path.exists() else self.at_once

    def step(self, model: nn.Module, batch: Batch, backward: Backward, *, closes: bool) -> torch.Tensor:
        """Accumulate the gradients of a batch, in parts if memory requires it.

        An error during a backward pass leaves only some of the gradients accumulated, so all batches since the last
        optimiser step are computed again. Processes exchange gradients only after all of them have succeeded, so that
        none waits for one that failed.

        ``backward`` runs the forward and backward pass of a part and returns its share of the step's loss. If an optimiser
        step follows (``closes``), processes average their gradients. Returns the batch's share of the step's loss.

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
            _synchronize(alone)
        return loss

    def _try(self, batches: list[Batch], model: nn.Module, backward: Backward) -> torch.Tensor | None:
        """Return the loss of the last batch; None, with smaller parts from now on, if memory was full in some process."""
        tried = min(max(len(batch["labels"]) for batch in batches), self.at_once)
        fitting, loss = self.at_once, None
        try:
            for batch in batches:
                loss = torch.stack([backward(model, part) for part in split_batch(batch, self.at_once)]).sum()
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
                raise
            fitting = 0 if tried == 1 else (tried + 1) // 2
        state = PartialState()
        if state.num_processes > 1:
            fitting = int(gather(torch.tensor([fitting], device=state.device)).min())
        if fitting == self.at_once:
            return loss
        if fitting == 0:
            raise UserError(
                "a single row does not fit into memory",
                where="--auto_find_batch_size",
                fix="make the inputs smaller (--max_length, --image_size), or add --gradient_checkpointing.",
            )
        clear_device_cache(garbage_collection=True)
        self.at_once = fitting
        say(
            f"Out of memory with {tried} rows at once: {fitting} from now on. A step still has the same number of rows."
        )
        return None


def split_batch(batch: Batch, at_once: int) -> list[Batch]:
    """Split a batch into batches of at most ``at_once`` rows, in order."""
    rows = len(batch["labels"])
    if rows <= at_once:
        return [batch]
    cuts = range(0, rows, at_once)
    return [{name: tensor[start : start + at_once] for name, tensor in batch.items()} for start in cuts]


def _synchronize(model: nn.Module) -> None:
    """Average gradients and broadcast buffers of the first process, as DistributedDataParallel does."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()
    for buffer in model.buffers():
        torch.distributed.broadcast(buffer, 0)
