"""Progress of the training: one line per epoch, and a bar on a terminal.

The Trainer's own callbacks print dictionaries, or bars whose carriage returns fill a redirected file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_finetune.console import is_main_process, is_terminal, say


class Progress(TrainerCallback):
    """Prints phase, epoch, loss, metric, rows per second and the remaining time of the phase.

    Args:
        phase: the name of the phase.
        bar: whether to show a bar; None shows one on a terminal.
        console: the rich console of the bar; by default standard output.
    """

    def __init__(self, phase: str, *, bar: bool | None = None, console: Any = None) -> None:
        self.phase = phase
        self.rows_per_second = 0.0
        self._wanted = bar
        self._console = console
        self._bar: Any = None
        self._task: Any = None
        self._pending: dict[str, float] = {}  # figures that are not printed yet
        self._rows_of_epoch: int | None = None
        self._trained = 0.0  # seconds of training since the last log, without evaluations and checkpoints
        self._mark = self._began = 0.0
        self._epoch_logged = 0.0
        self._first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock; a resumed phase starts at its last step."""
        loader = kwargs.get("train_dataloader")
        rows = getattr(loader, "dataset", None)
        self._rows_of_epoch = len(rows) if hasattr(rows, "__len__") else None  # type: ignore[arg-type]
        self._began = self._mark = time.perf_counter()
        self._first_step, self._epoch_logged, self._trained = state.global_step, state.epoch or 0.0, 0.0
        self._pending = {}
        if is_main_process() and (is_terminal() if self._wanted is None else self._wanted):
            self._open(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Add the time of the step, the loading of its rows included."""
        now = time.perf_counter()
        self._trained += now - self._mark
        self._mark = now
        self._show(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leave out the time of writing a checkpoint."""
        self._mark = time.perf_counter()

    def measure(self, state: TrainerState) -> float:
        """Return the training rows (or chunks of long texts) per second since the last call."""
        epochs = (state.epoch or 0.0) - self._epoch_logged
        if self._rows_of_epoch is None or self._trained <= 0 or epochs <= 0:
            return self.rows_per_second
        self.rows_per_second = epochs * self._rows_of_epoch / self._trained
        self._epoch_logged, self._trained = state.epoch or 0.0, 0.0
        return self.rows_per_second

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Keep the loss until the evaluation of its epoch; print it at once where nothing is evaluated."""
        if "loss" in (logs or {}):
            self._flush(state)
            self._pending["loss"] = float(logs["loss"])
            if str(getattr(args.eval_strategy, "value", args.eval_strategy)) == "no":
                self._flush(state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Print the loss, and the metric that chooses the best epoch."""
        name = args.metric_for_best_model or "eval_loss"
        name = name if name.startswith("eval_") else f"eval_{name}"
        if name in (metrics or {}):
            label = "validation loss" if name == "eval_loss" else name.removeprefix("eval_")
            self._pending[label] = float(metrics[name])
        self._flush(state)
        self._mark = time.perf_counter()

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Print what was logged without an evaluation."""
        self._flush(state)
        self._mark = time.perf_counter()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
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
            figures = ", ".join(f"{name} {value:.4g}" for name, value in self._pending.items())
            self._pending = {}
            say(f"{self._where(state)}: {figures}{self._pace(state)}")
            if self._bar is not None:
                self._bar.update(self._task, figures=figures)

    def _where(self, state: TrainerState) -> str:
        end = f"/{state.num_train_epochs}" if state.num_train_epochs < 1e6 else ""  # steps alone may be known
        return f"{self.phase}, epoch {round(state.epoch or 0.0, 1):g}{end}"

    def _pace(self, state: TrainerState) -> str:
        pace = f", {self.rows_per_second:,.0f} rows/s" if self.rows_per_second else ""
        left = self._seconds_left(state)
        return f"{pace}, {format_seconds(left)} left" if left else pace

    def _seconds_left(self, state: TrainerState) -> float:
        """Return the remaining seconds of the phase at its average speed, evaluations and checkpoints included."""
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
    """Turn off the progress bars of ``transformers``, which would break our bar and fill a redirected file."""
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()


def format_seconds(seconds: float) -> str:
    """Return a duration as text: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
