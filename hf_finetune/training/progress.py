"""What a run says while it trains: one line an epoch, and on a terminal a bar below the lines.

The Trainer's own callbacks print dictionaries, or bars whose carriage returns fill the file that output is sent to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.console import is_main_process, is_terminal, say


class Progress(TrainerCallback):
    """Tells phase, epoch, loss, metric, rows a second and the time that the phase still takes.

    Args:
        phase: its name.
        bar: whether a terminal shows a bar; None: where there is a terminal.
        console: rich's, for the bar; by default standard output.
    """

    def __init__(self, phase: str, *, bar: bool | None = None, console: Any = None) -> None:
        self.phase = phase
        self.rows_per_second = 0.0
        self._wanted = bar
        self._console = console
        self._bar: Any = None
        self._task: Any = None
        self._said: dict[str, float] = {}  # of the epoch that no line was printed for
        self._rows_of_epoch: int | None = None
        self._trained = 0.0  # seconds, evaluations and checkpoints left out, since the last log
        self._mark = self._began = 0.0
        self._epoch_logged = 0.0
        self._first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A resumed phase goes on in the middle."""
        loader = kwargs.get("train_dataloader")
        rows = getattr(loader, "dataset", None)
        self._rows_of_epoch = len(rows) if hasattr(rows, "__len__") else None  # type: ignore[arg-type]
        self._began = self._mark = time.perf_counter()
        self._first_step, self._epoch_logged, self._trained = state.global_step, state.epoch or 0.0, 0.0
        self._said = {}
        if is_main_process() and (is_terminal() if self._wanted is None else self._wanted):
            self._open(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count the step, and the reading of its rows."""
        now = time.perf_counter()
        self._trained += now - self._mark
        self._mark = now
        self._show(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Writing a checkpoint is no training."""
        self._mark = time.perf_counter()

    def measure(self, state: TrainerState) -> float:
        """Training rows a second since this was last asked; of texts that are read in chunks, chunks."""
        epochs = (state.epoch or 0.0) - self._epoch_logged
        if self._rows_of_epoch is None or self._trained <= 0 or epochs <= 0:
            return self.rows_per_second
        self.rows_per_second = epochs * self._rows_of_epoch / self._trained
        self._epoch_logged, self._trained = state.epoch or 0.0, 0.0
        return self.rows_per_second

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """A loss waits for the evaluation of its epoch, where there is one."""
        if "loss" in (logs or {}):
            self._flush(state)
            self._said["loss"] = float(logs["loss"])
            if str(getattr(args.eval_strategy, "value", args.eval_strategy)) == "no":
                self._flush(state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Say the loss and the metric that chooses the best epoch."""
        name = args.metric_for_best_model or "eval_loss"
        name = name if name.startswith("eval_") else f"eval_{name}"
        if name in (metrics or {}):
            self._said["validation loss" if name == "eval_loss" else name.removeprefix("eval_")] = float(metrics[name])
        self._flush(state)
        self._mark = time.perf_counter()

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """What was logged without an evaluation."""
        self._flush(state)
        self._mark = time.perf_counter()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take the bar away."""
        self._flush(state)
        self.close()

    def close(self) -> None:
        """Take the bar away, after an error too."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _flush(self, state: TrainerState) -> None:
        if self._said:
            said, self._said = self._said, {}
            figures = ", ".join(f"{name} {value:.4g}" for name, value in said.items())
            say(f"{self._where(state)}: {figures}{self._pace(state)}")
            if self._bar is not None:
                self._bar.update(self._task, figures=figures)

    def _where(self, state: TrainerState) -> str:
        end = f"/{state.num_train_epochs}" if state.num_train_epochs < 1e6 else ""  # steps alone may be known
        return f"{self.phase}, epoch {round(state.epoch or 0.0, 1):g}{end}"

    def _pace(self, state: TrainerState) -> str:
        pace = f", {self.rows_per_second:,.0f} rows/s" if self.rows_per_second else ""
        left = self._seconds_left(state)
        return f"{pace}, {in_words(left)} left" if left else pace

    def _seconds_left(self, state: TrainerState) -> float:
        """Of the phase, with its evaluations and checkpoints, at the pace so far."""
        done = state.global_step - self._first_step
        return (time.perf_counter() - self._began) / done * (state.max_steps - state.global_step) if done else 0.0

    def _open(self, state: TrainerState) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}{task.fields[pace]}", markup=False),
        )
        self._bar = Progress(*columns, console=self._console, transient=True, expand=True)
        self._task = self._bar.add_task(
            self.phase, total=state.max_steps, completed=state.global_step, figures="", pace=""
        )
        self._bar.start()

    def _show(self, state: TrainerState) -> None:
        if self._bar is not None:
            where, pace = self._where(state), self._pace(state)
            self._bar.update(self._task, completed=state.global_step, description=where, pace=pace)


@contextmanager
def without_library_bars() -> Iterator[None]:
    """Bars of ``transformers`` (loading and writing of weights) would break ours, and lines in a file."""
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()


def in_words(seconds: float) -> str:
    """A span of time: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
