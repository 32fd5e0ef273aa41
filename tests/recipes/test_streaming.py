"""Recipes on streams: as good as on rows in memory, the same in two processes, and exact when resumed."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from hf_finetune.packaged import load_recipe, recipe_path
from hf_finetune.training import Interrupted

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def long_file(tmp_path_factory):
    """CSV of 333 rows: a number that no batch divides."""
    from conftest import make_texts

    path = tmp_path_factory.mktemp("long") / "train.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *make_texts(333, seed=5)])
    return str(path)


def text_flags(checkpoint, long_file, text_files, output, *extra):
    data = ["--train_file", long_file, "--test_file", text_files["test"], "--streaming"]
    fixed = ["--num_train_epochs", "3", "--learning_rate", "3e-3", "--bf16", "false"]
    return ["--model_name_or_path", checkpoint, *data, *fixed, "--output_dir", str(output), *extra]


def test_a_stream_trains_as_well_as_rows_in_memory(checkpoints, long_file, text_files, tmp_path):
    main = load_recipe(recipe_path("text-classification"))
    flags = text_flags(checkpoints("bert"), long_file, text_files, tmp_path / "stream")
    stream = main(flags)
    memory = main([*flags, "--streaming", "false", "--output_dir", str(tmp_path / "memory")])
    assert stream["test"]["rows"] == memory["test"]["rows"] == 21
    assert stream["test"]["accuracy"] >= 0.9 > stream["test"]["majority_accuracy"] + 0.2
    assert memory["test"]["accuracy"] >= 0.9
    # As many rows a step, and as many steps: 333 rows less the 33 or 32 that are held out.
    steps = [
        json.loads(next(folder.glob("checkpoints/*/*/trainer_state.json")).read_text())["max_steps"]
        for folder in (tmp_path / "stream", tmp_path / "memory")
    ]
    assert steps[0] == steps[1] == 3 * 19
    card = (tmp_path / "stream" / "README.md").read_text()
    assert "training rows are held out" in card
    assert "streaming: true" in (tmp_path / "stream" / "config.yaml").read_text()


@pytest.fixture
def stop_after(monkeypatch):
    """Send this process a signal at the end of optimiser step N of the run."""
    from hf_finetune.training import callbacks

    def arm(step):
        original = callbacks.StopOnSignal.on_step_end
        seen = {"steps": 0}

        def on_step_end(self, args, state, control, **kwargs):
            seen["steps"] += 1
            if seen["steps"] == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, args, state, control, **kwargs)

        monkeypatch.setattr(callbacks.StopOnSignal, "on_step_end", on_step_end)

    return arm


def assert_resumed_alike(main, flags, tmp_path, stop_after, *steps):
    """The weights of a run from end to end are those of runs that were stopped after a step and resumed."""
    main([*flags, "--output_dir", str(tmp_path / "whole")])
    whole = load_file(tmp_path / "whole" / "model" / "model.safetensors")
    for step in steps:
        stop_after(step)
        stopped = [*flags, "--output_dir", str(tmp_path / f"stopped-{step}")]
        with pytest.raises(Interrupted):
            main(stopped)
        main([*stopped, "--resume_from_checkpoint", "auto"])
        resumed = load_file(tmp_path / f"stopped-{step}" / "model" / "model.safetensors")
        assert whole.keys() == resumed.keys()
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == [], step


@pytest.mark.usefixtures("training_alone")
@pytest.mark.parametrize(
    ("strategy", "steps"), [pytest.param("full", (7, 19), marks=pytest.mark.slow), ("lp_ft", (30, 95))]
)
def test_a_resumed_stream_ends_with_the_same_weights(
    strategy, steps, checkpoints, long_file, text_files, tmp_path, stop_after, monkeypatch
):
    monkeypatch.setattr("hf_finetune.tasks.inputs.text.rows.block_rows", 64)
    monkeypatch.setattr("hf_finetune.tasks.inputs.image.rows.block_rows", 8)  # several blocks an epoch
    flags = text_flags(checkpoints("bert"), long_file, text_files, tmp_path, "--strategy", strategy)
    assert_resumed_alike(load_recipe(recipe_path("text-classification")), flags, tmp_path, stop_after, *steps)


@pytest.fixture(scope="module")
def image_files(image_folder, tmp_path_factory):
    """The images of the image folder as Parquet files, one a split."""
    from hf_finetune.data.readers.cell import IMAGE
    from hf_finetune.data.readers.folder import open_classes

    folder = tmp_path_factory.mktemp("parquet")
    for split in ("train", "validation", "test"):
        rows = open_classes(Path(image_folder) / split, IMAGE).keep().shuffle(seed=0)
        rows = rows.map(lambda row: {"image": {"path": None, "bytes": Path(row["image"]["path"]).read_bytes()}})
        rows.to_parquet(folder / f"{split}.parquet")
    return [word for s in ("train", "validation", "test") for word in (f"--{s}_file", str(folder / f"{s}.parquet"))]


@pytest.mark.usefixtures("training_alone")
def test_images_of_a_stream_are_learnt_and_a_resumed_run_sees_the_same_views(
    checkpoints, image_files, tmp_path, stop_after
):
    flags = ["--model_name_or_path", checkpoints("timm-resnet"), *image_files, "--streaming", "--strategy", "lp_ft"]
    flags += ["--num_train_epochs", "3", "--per_device_train_batch_size", "10", "--augmentation", "randaug"]
    main = load_recipe(recipe_path("image-classification"))
    assert_resumed_alike(main, flags, tmp_path, stop_after, 28)
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert metrics["test"]["rows"] == 13
    assert metrics["test"]["accuracy"] > metrics["test"]["majority_accuracy"] + 0.3
    assert metrics["validation"]["rows"] == 12


def test_two_processes_and_workers_train_as_one_does(python, checkpoints, long_file, text_files, tmp_path):
    model = checkpoints("bert-without-dropout")
    whole_steps = ["--max_train_samples", "320", "--validation_split", "0.1", "--num_train_epochs", "2"]  # 288 rows
    for processes, workers in ((1, 0), (2, 1)):
        output = tmp_path / str(processes)
        options = [*whole_steps, "--dataloader_num_workers", str(workers)]
        argv = ["recipes/text_classification.py", *text_flags(model, long_file, text_files, output, *options)]
        done = python(argv, cwd=REPOSITORY, processes=processes, alone=True)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("1", "2"))
    assert two["timing"]["processes"] == 2
    assert two["test"] == pytest.approx(one["test"], rel=1e-3)
    frames = [pd.read_parquet(tmp_path / n / "predictions.parquet") for n in ("1", "2")]
    assert list(frames[0]["prediction"]) == list(frames[1]["prediction"])
    weights = [load_file(tmp_path / n / "model" / "model.safetensors") for n in ("1", "2")]
    for name in weights[0]:
        assert torch.allclose(weights[0][name], weights[1][name], atol=2e-4), name
