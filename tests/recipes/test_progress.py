"""The output of a run that nobody watches, and what trackers and the history get."""

from __future__ import annotations

import json
import re

import pytest

from hf_finetune import fine_tune


@pytest.fixture(scope="module")
def run(checkpoints, text_files, tmp_path_factory):
    """Two phases with a tracker; returns the folder and what was printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("progress") / "run"
    files = {f"{split}_file": path for split, path in text_files.items()}
    flags = {
        "strategy": "lp_ft",
        "num_train_epochs": 2,
        "bf16": False,
        "report_to": "tensorboard",
        "output_dir": folder,
    }
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        fine_tune("text-classification", model_name_or_path=checkpoints("bert"), **files, **flags)
    return folder, printed.getvalue()


def test_a_file_gets_lines_and_no_bars(run):
    _, printed = run
    lines = re.findall(
        r"^(head|full), epoch (\d)/(\d): loss [\d.]+, accuracy [\d.]+, [\d,]+ rows/s(.*)$", printed, re.M
    )
    epochs = int(lines[0][2])
    assert [line[:3] for line in lines] == [
        *(("head", str(i + 1), str(epochs)) for i in range(epochs)),
        ("full", "1", "2"),
        ("full", "2", "2"),
    ]
    assert all(left.endswith(" left") for *_, number, end, left in lines if number != end)
    for noise in ("\r", "it/s", "Writing model shards", "Loading weights", "{'", "\x1b["):
        assert noise not in printed


def test_the_lines_are_in_the_log(run):
    folder, _ = run
    assert "full, epoch 2/2: loss " in (folder / "train.log").read_text(encoding="utf-8")


def test_the_history_has_throughput_and_the_rate_of_the_head(run):
    folder, _ = run
    states = [
        json.loads(path.read_text()) for path in folder.glob("checkpoints/2-full/checkpoint-*/trainer_state.json")
    ]
    logged = [entry for entry in max(states, key=lambda s: s["global_step"])["log_history"] if "loss" in entry]
    assert logged
    assert all(entry["rows_per_second"] > 0 for entry in logged)
    ratios = [entry["learning_rate_head"] / entry["learning_rate"] for entry in logged if entry["learning_rate"]]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    assert logged[0]["learning_rate_head"] > logged[0]["learning_rate"]


def test_tensorboard_gets_every_phase_in_a_folder_of_its_own(run):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = run
    files = sorted((folder / "checkpoints").glob("*/runs/*/events.out.tfevents.*"))
    assert [file.parts[-4] for file in files] == ["1-head", "2-full"]
    for file in files:
        events = EventAccumulator(str(file))
        events.Reload()
        assert {"train/loss", "eval/accuracy", "train/rows_per_second"} <= set(events.Tags()["scalars"])
        steps = [event.step for event in events.Scalars("train/loss")]
        assert len(steps) >= 2
        assert steps == sorted(set(steps))
