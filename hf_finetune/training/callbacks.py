"""A run that is told to stop writes a checkpoint first."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Interrupted(Exception):
    """The run was stopped by a signal, after a checkpoint was written.

    Args:
        number: the signal; the exit status is 128 plus it.
        folder: the run folder.
    """

    def __init__(self, number: int, folder: str) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number
        self.folder = folder


class StopOnSignal(TrainerCallback):
    """On SIGINT or SIGTERM: finish the step, write a checkpoint, stop. A second signal stops at once."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take the signals over; only the main thread of a process may."""
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._receive) for n in (signal.SIGINT, signal.SIGTERM)}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """All processes stop after the same step, whichever of them was signalled."""
        received = self.received
        if args.world_size > 1:
            flag = torch.tensor(received, device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            received = self.received = int(flag)
        if received:
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Leaving the loop early looks like the end of an epoch: half an epoch must not be judged, or kept as best."""
        if self.received:
            control.should_evaluate = control.should_save = control.should_log = False
        return control

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(number, self._before[number])
