"""Trainer callbacks: a checkpoint before a signal stops the run, and the epoch for random views."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.data.splits.stream import Stream


class SetEpoch(TrainerCallback):
    """Sets the epoch of the training rows, on which their random views depend."""

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Set the epoch; a resumed stream starts at the row where it stopped."""
        loader = kwargs["train_dataloader"]
        epoch = int((state.epoch or 0) + 1e-6)
        if hasattr(loader.dataset, "set_epoch"):
            loader.dataset.set_epoch(epoch)
        rows = getattr(loader.dataset, "dataset", loader.dataset)  # accelerate wraps a stream for several processes
        if isinstance(rows, Stream):
            begun = 0.0 if args.ignore_data_skip else (state.epoch or 0) - epoch
            rows.start_at(round(begun * len(loader)))


class StopOnSignal(TrainerCallback):
    """On SIGINT or SIGTERM, finishes the step, writes a checkpoint and stops. A second signal stops at once."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Install the signal handlers, which only the main thread may do."""
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._receive) for n in (signal.SIGINT, signal.SIGTERM)}

    def on_step_end(self, args: TrainingArguments, state: Any, control: TrainerControl, **_: Any) -> TrainerControl:
        """Stop all processes after the same step, whichever of them got the signal."""
        if args.world_size > 1:
            flag = torch.tensor(self.received, device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            self.received = int(flag)
        if self.received:
            control.should_save = True
            control.should_training_stop = True
            # Else the Trainer would load the best model, and delete the checkpoint that was just written.
            args.load_best_model_at_end = False
            args.save_total_limit = None
        return control

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        """Skip the evaluation when the epoch was interrupted: half an epoch must not become the best one."""
        half = abs((state.epoch or 0) - round(state.epoch or 0)) > 1e-6
        if self.received and half:
            control.should_evaluate = control.should_save = control.should_log = False
        return control

    def restore(self) -> None:
        """Restore the earlier signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(number, self._before[number])
