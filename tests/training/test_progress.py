"""Progress of a phase: lines in a file, lines and a bar on a terminal, nothing from other processes."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from hf_finetune.console import without_bars
from hf_finetune.training.callbacks import Progress, format_seconds

ARGS = SimpleNamespace(eval_strategy="epoch", metric_for_best_model="eval_accuracy")
CONTROL = TrainerControl()


def train(progress: Progress, args=ARGS, epochs: int = 2, steps: int = 5) -> TrainerState:
    """Call the callback in the order of the Trainer."""
    state = TrainerState(epoch=0.0, global_step=0, max_steps=epochs * steps, num_train_epochs=epochs)
    progress.on_train_begin(args, state, CONTROL, train_dataloader=SimpleNamespace(dataset=range(80)))
    for epoch in range(1, epochs + 1):
        progress.on_epoch_begin(args, state, CONTROL)
        for _ in range(steps):
            time.sleep(0.002)
            state.global_step += 1
            state.epoch = state.global_step / steps
            progress.on_step_end(args, state, CONTROL)
        progress.measure(state)
        progress.on_log(args, state, CONTROL, logs={"loss": 0.5 / epoch, "learning_rate": 1e-3})
        if args.eval_strategy != "no":
            time.sleep(0.05)
            metrics = {"eval_accuracy": 0.7 + epoch / 10, "eval_loss": 0.3}
            progress.on_log(args, state, CONTROL, logs=metrics)
            progress.on_evaluate(args, state, CONTROL, metrics=metrics)
    progress.on_log(args, state, CONTROL, logs={"train_runtime": 3.0, "train_loss": 0.4})
    progress.on_train_end(args, state, CONTROL)
    return state


def test_a_file_gets_one_line_per_epoch(capsys):
    train(Progress("head", bar=False))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("head, epoch 1/2: loss 0.5, accuracy 0.8, ")
    assert first.endswith(" rows/s, 1 s left")
    assert second.startswith("head, epoch 2/2: loss 0.25, accuracy 0.9, ")
    assert second.endswith(" rows/s")


def test_without_an_evaluation_the_loss_is_printed_immediately(capsys):
    progress = Progress("full", bar=False)
    train(progress, SimpleNamespace(eval_strategy="no", metric_for_best_model=None), epochs=1)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("full, epoch 1/1: loss 0.5, ")


def test_without_a_metric_the_validation_loss_is_printed(capsys):
    train(Progress("full", bar=False), SimpleNamespace(eval_strategy="epoch", metric_for_best_model=None), epochs=1)
    assert "loss 0.5, validation loss 0.3, " in capsys.readouterr().out


def test_throughput_excludes_evaluations():
    progress = Progress("head", bar=False)
    train(progress, epochs=3)
    assert 80 / 0.05 < progress.rows_per_second < 80 / 0.01  # an epoch takes 0.01 s, its evaluation 0.05 s


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the output for a terminal
    monkeypatch.setenv("COLUMNS", "100")


def test_a_terminal_also_gets_a_bar(terminal, capsys):
    train(Progress("head"))
    shown = capsys.readouterr().out
    assert "━" in shown
    assert "\x1b[?25h" in shown  # the cursor is shown again
    assert shown.count("head, epoch 1/2: loss 0.5, accuracy 0.8") == 1
    assert shown.count("head, epoch 2/2: loss 0.25, accuracy 0.9") == 1


def test_the_bar_is_removed_after_an_error(terminal, capsys):
    progress = Progress("head")
    state = TrainerState(epoch=0.0, global_step=0, max_steps=4, num_train_epochs=1)
    progress.on_train_begin(ARGS, state, CONTROL, train_dataloader=None)
    progress.close()
    progress.close()
    assert "\x1b[?25h" in capsys.readouterr().out


def test_no_bar_where_none_is_wanted(terminal, capsys):
    train(Progress("head", bar=False))
    assert "━" not in capsys.readouterr().out


def test_other_processes_print_nothing(terminal, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    progress = Progress("head")
    train(progress)
    assert capsys.readouterr().out == ""
    assert progress.rows_per_second > 0


def test_a_stream_of_unknown_length_has_no_number_of_epochs(capsys):
    progress = Progress("full", bar=False)
    state = TrainerState(epoch=0.4, global_step=4, max_steps=10, num_train_epochs=2**62)
    progress.on_train_begin(ARGS, state, CONTROL, train_dataloader=SimpleNamespace(dataset=iter(())))
    progress.on_log(ARGS, state, CONTROL, logs={"loss": 0.5})
    progress.on_train_end(ARGS, state, CONTROL)
    assert capsys.readouterr().out == "full, epoch 0.4: loss 0.5\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (40, "40 s"), (90, "2 min"), (5000, "83 min"), (12_600, "3.5 h")]
)
def test_remaining_time_in_words(seconds, words):
    assert format_seconds(seconds) == words


def test_progress_bars_of_libraries_are_restored(monkeypatch):
    from transformers.utils import logging

    monkeypatch.setattr(logging.hf_hub_utils, "enable_progress_bars", lambda: None)  # disabled in the test environment
    logging.enable_progress_bar()
    try:
        with without_bars(logging):
            assert not logging.is_progress_bar_enabled()
        assert logging.is_progress_bar_enabled()
    finally:
        logging.disable_progress_bar()
