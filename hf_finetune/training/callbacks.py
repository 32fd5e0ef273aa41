"""Trainer callbacks: a checkpoint before a signal stops the run, the epoch for random views, and progress.

The Trainer's own progress is dictionaries, or bars whose carriage returns fill a redirected file.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.console import is_main_process, is_terminal, say
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


class Progress(TrainerCallback):
    """Prints phase, epoch, loss, metric, rows per second and the remaining time of the phase; on a terminal with a bar."""

    def __init__(self, phase: str, *, bar: bool = True) -> None:
        self.phase = phase
        self.sampled: int | None = None  # rows of an epoch, if they are not those of the data
        self.rows_per_second = 0.0
        self._wanted = bar
        self._bar: Bar | None = None
        self._pending: dict[str, float] = {}  # figures that are not printed yet
        self._figures = ""
        self._trained = 0.0  # seconds of training since the last log, without evaluations and checkpoints

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Start the clock; a resumed phase starts at its last step."""
        rows = getattr(kwargs.get("train_dataloader"), "dataset", None)
        whole = len(rows) if hasattr(rows, "__len__") else None  # type: ignore[arg-type]
        self._rows_of_epoch = whole if self.sampled is None else self.sampled
        self._began = self._mark = time.perf_counter()
        self._first_step, self._epoch_logged = state.global_step, state.epoch or 0.0
        if self._wanted and is_main_process() and is_terminal():
            figures = TextColumn("{task.fields[figures]}{task.fields[pace]}", markup=False)
            columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), figures)
            self._bar = Bar(*columns, transient=True, expand=True)
            self._bar.add_task(self.phase, total=state.max_steps, completed=state.global_step, figures="", pace="")
            self._bar.start()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Add the time of the step, the loading of its rows included."""
        now = time.perf_counter()
        self._trained += now - self._mark
        self._mark = now
        self._show(state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave out the time of writing a checkpoint."""
        self._mark = time.perf_counter()

    def measure(self, state: TrainerState) -> float:
        """Return the training rows (or chunks of long texts) per second since the last call."""
        epochs = (state.epoch or 0.0) - self._epoch_logged
        if self._rows_of_epoch is not None and self._trained > 0 and epochs > 0:
            self.rows_per_second = epochs * self._rows_of_epoch / self._trained
            self._epoch_logged, self._trained = state.epoch or 0.0, 0.0
        return self.rows_per_second

    def on_log(self, args: TrainingArguments, state: TrainerState, control: Any, logs: Any = None, **_: Any) -> None:
        """Keep the loss until the evaluation of its epoch; print it at once where nothing is evaluated."""
        if "loss" in (logs or {}):
            self._flush(state)
            self._pending["loss"] = float(logs["loss"])
            if args.eval_strategy == "no":
                self._flush(state)

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, metrics: Any = None, **_: Any) -> None:
        """Print the loss, and the metric that chooses the best epoch."""
        name = (args.metric_for_best_model or "loss").removeprefix("eval_")
        if f"eval_{name}" in (metrics or {}):
            self._pending["validation loss" if name == "loss" else name] = float(metrics[f"eval_{name}"])
        self.on_epoch_begin(args, state, control)

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Print what was logged without an evaluation."""
        self._flush(state)
        self._mark = time.perf_counter()

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Print the last figures, and remove the bar."""
        self._flush(state)
        self.close()

    def close(self) -> None:
        """Remove the bar; also called after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _flush(self, state: TrainerState) -> None:
        if self._pending:
            self._figures = ", ".join(f"{name} {value:.4g}" for name, value in self._pending.items())
            self._pending = {}
            say(f"{self._where(state)}: {self._figures}{self._pace(state)}")
            self._show(state)

    def _where(self, state: TrainerState) -> str:
        end = f"/{state.num_train_epochs}" if state.num_train_epochs < 1e6 else ""  # steps alone may be known
        return f"{self.phase}, epoch {round(state.epoch or 0.0, 1):g}{end}"

    def _pace(self, state: TrainerState) -> str:
        """Return the speed, and the time left at the average speed, evaluations and checkpoints included."""
        pace = f", {self.rows_per_second:,.0f} rows/s" if self.rows_per_second else ""
        done, left = state.global_step - self._first_step, state.max_steps - state.global_step
        if not done or not left:
            return pace
        return f"{pace}, {format_seconds((time.perf_counter() - self._began) / done * left)} left"

    def _show(self, state: TrainerState) -> None:
        if self._bar is not None:
            shown: Any = {"description": self._where(state), "figures": self._figures, "pace": self._pace(state)}
            self._bar.update(self._bar.task_ids[0], completed=state.global_step, **shown)


def format_seconds(seconds: float) -> str:
    """Return a duration as text: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
