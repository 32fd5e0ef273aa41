"""A run that was stopped goes on where it stopped, and ends where it would have ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_finetune.cli.status import run_as_script
from hf_finetune.errors import Interrupted, UserError
from hf_finetune.packaged import load_recipe, recipe_path

pytestmark = pytest.mark.usefixtures("training_alone")


@pytest.fixture
def stop_after(monkeypatch):
    """Send this process a signal at the end of optimiser step N of the run."""
    from hf_finetune.training import callbacks

    def arm(step, number=signal.SIGTERM):
        original = callbacks.StopOnSignal.on_step_end
        seen = {"steps": 0}

        def on_step_end(self, args, state, control, **kwargs):
            seen["steps"] += 1
            if seen["steps"] == step:
                os.kill(os.getpid(), number)
            return original(self, args, state, control, **kwargs)

        monkeypatch.setattr(callbacks.StopOnSignal, "on_step_end", on_step_end)

    return arm


def flags_of(checkpoints, text_files, output, *extra):
    data = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
    fixed = ["--num_train_epochs", "3", "--per_device_train_batch_size", "8", "--learning_rate", "1e-3"]
    return ["--model_name_or_path", checkpoints("bert"), *data, *fixed, "--output_dir", str(output), *extra]


@pytest.fixture(scope="module")
def train(checkpoints, text_files, image_folder):
    """``train(output, model, *flags)``: train on the texts or the images."""

    def train(output, model, *flags):
        if model == "bert":
            return load_recipe(recipe_path("text-classification"))(flags_of(checkpoints, text_files, output, *flags))
        fixed = ["--dataset_name", image_folder, "--num_train_epochs", "3", "--per_device_train_batch_size", "12"]
        argv = ["--model_name_or_path", checkpoints(model), *fixed, "--output_dir", str(output), *flags]
        return load_recipe(recipe_path("image-classification"))(argv)

    return train


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """``whole(model, *flags)``: the weights of a run from end to end, which is trained once."""
    root = tmp_path_factory.mktemp("whole")
    runs = {}

    def weights(*run):
        if run not in runs:
            train(root / str(len(runs)), *run)
            runs[run] = load_file(root / str(len(runs)) / "model" / "model.safetensors")
        return runs[run]

    return weights


VIEWS = ("--augmentation", "randaug", "--rotation_degrees", "10", "--mixup", "0.2", "--strategy", "lp_ft")
FULL = ("--strategy", "lp_ft", "--learning_rate", "1e-2", "--augmentation", "none")
BALANCED = ("--balanced_sampling", "--focal_gamma", "2")
STOPS = [
    *(("bert", ("--strategy", strategy, "--merge_adapter"), step) for strategy, step in (
        ("full", 5), ("full", 13), ("lp_ft", 3), ("lp_ft", 45), ("lora", 10),
    )),
    ("bert", BALANCED, 8), ("timm-resnet", VIEWS, 6),
]  # fmt: skip
MORE_STOPS = [
    *(("bert", ("--strategy", strategy, "--merge_adapter"), step) for strategy, step in (
        ("full", 8), ("lp_ft", 32), ("gradual", 37), ("gradual", 48),
    )),
    ("bert", BALANCED, 5), ("bert", BALANCED, 13), ("timm-resnet", VIEWS, 4),
    ("timm-resnet", VIEWS, 20), ("vit", FULL, 21), ("mobilenet", FULL, 24), ("swin", FULL, 18),
]  # fmt: skip
STOPS += [pytest.param(*stop, marks=pytest.mark.slow) for stop in MORE_STOPS]


@pytest.mark.parametrize(("model", "flags", "step"), STOPS, ids=lambda value: str(value).strip("()"))
def test_resumed_runs_end_with_the_same_weights(model, flags, step, train, whole, tmp_path, stop_after):
    expected = whole(model, *flags)
    stop_after(step)
    with pytest.raises(Interrupted):
        train(tmp_path, model, *flags)
    assert not (tmp_path / "model").exists()
    train(tmp_path, model, *flags, "--resume_from_checkpoint", "auto")
    resumed = load_file(tmp_path / "model" / "model.safetensors")
    assert expected.keys() == resumed.keys()
    assert [name for name in expected if not torch.equal(expected[name], resumed[name])] == []


def test_balanced_sampling_trains_on_other_rows(whole):
    balanced, plain = whole("bert", *BALANCED), whole("bert", *BALANCED[1:])
    assert [name for name in balanced if not torch.equal(balanced[name], plain[name])] != []


@pytest.mark.parametrize("name", ["vit", pytest.param("timm-vit", marks=pytest.mark.slow)])
def test_the_best_epoch_is_kept_whole(name, checkpoints, image_folder, tmp_path):
    """At a tiny rate accuracy stays as it is, so that the first epoch is the best: all of its weights must be back."""
    main = load_recipe(recipe_path("image-classification"))
    flags = ["--dataset_name", image_folder, "--num_train_epochs", "4", "--per_device_train_batch_size", "12"]
    flags += ["--strategy", "full", "--learning_rate", "1e-6"]
    main(["--model_name_or_path", checkpoints(name), *flags, "--save_total_limit", "4", "--output_dir", str(tmp_path)])
    folder = tmp_path / "checkpoints" / "1-full"
    state = json.loads(max(folder.glob("*/trainer_state.json"), key=lambda p: p.stat().st_mtime).read_text())
    best = folder / Path(state["best_model_checkpoint"]).name
    assert best.name != "checkpoint-16"
    kept, saved = (load_file(place / "model.safetensors") for place in (best, tmp_path / "model"))
    assert [key for key in kept if not torch.equal(kept[key], saved[key])] == []


def test_exit_status_and_command_of_an_interrupted_run(
    checkpoints, text_files, tmp_path, stop_after, capsys, monkeypatch
):
    stop_after(2, signal.SIGINT)
    monkeypatch.setattr("sys.argv", ["recipes/text_classification.py", "--seed", "1"])
    main = load_recipe(recipe_path("text-classification"))
    assert run_as_script(lambda: main(flags_of(checkpoints, text_files, tmp_path))) == 130
    assert "recipes/text_classification.py --seed 1 --resume_from_checkpoint auto" in capsys.readouterr().err
    assert (tmp_path / "checkpoints" / "1-full" / "checkpoint-2" / "trainer_state.json").exists()


def test_resuming_where_there_is_nothing_starts_from_the_beginning(checkpoints, text_files, tmp_path, capsys):
    main = load_recipe(recipe_path("text-classification"))
    main(flags_of(checkpoints, text_files, tmp_path, "--num_train_epochs", "1", "--resume_from_checkpoint", "auto"))
    assert "There is no checkpoint yet" in capsys.readouterr().out
    assert (tmp_path / "metrics.json").exists()


def refused(main, flags) -> UserError:
    with pytest.raises(UserError) as caught:
        main(flags)
    return caught.value


def test_a_path_that_is_not_a_checkpoint_is_refused(checkpoints, text_files, tmp_path):
    main = load_recipe(recipe_path("text-classification"))
    error = refused(
        main, flags_of(checkpoints, text_files, tmp_path, "--resume_from_checkpoint", str(tmp_path / "nothing"))
    )
    assert error.what == "this is not a checkpoint of a run"


def test_checkpoints_of_other_runs_and_other_settings_are_refused(checkpoints, text_files, tmp_path, stop_after):
    main = load_recipe(recipe_path("text-classification"))
    run, fresh = tmp_path / "run", tmp_path / "fresh"
    begun = ["--strategy", "lp_ft", "--seed", "1"]
    stop_after(34)
    with pytest.raises(Interrupted):
        main(flags_of(checkpoints, text_files, run, *begun))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    (checkpoint,) = (run / "checkpoints" / "2-full").glob("checkpoint-*")
    assert not list((run / "checkpoints" / "1-head" / "finished").glob("*.bin"))

    resume = ["--resume_from_checkpoint", str(checkpoint)]
    error = refused(main, flags_of(checkpoints, text_files, fresh, "--strategy", "full", *resume))
    assert error.what.startswith(
        f"this checkpoint belongs to another run than --output_dir {fresh}; its settings differ: "
    )
    assert "strategy (lp_ft, not full)" in error.what
    assert error.fix == f"resume that run with --output_dir {run} --resume_from_checkpoint auto."
    assert not fresh.exists()
    # the same settings, but a folder of its own
    assert refused(main, flags_of(checkpoints, text_files, fresh, *begun, *resume)).what.endswith(
        f"--output_dir {fresh}"
    )
    assert not fresh.exists()

    error = refused(main, flags_of(checkpoints, text_files, run, "--strategy", "lp_ft", "--seed", "2", *resume))
    assert error.what == "the run was started with other settings: seed (1, not 2)"
    for asked in (resume, ["--resume_from_checkpoint", "auto"]):
        error = refused(main, flags_of(checkpoints, text_files, run, "--seed", "1", "--strategy", "full", *asked))
        assert error.what == "the run was started with other settings: strategy (lp_ft, not full)"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before

    shutil.rmtree(run / "checkpoints" / "1-head" / "finished")
    error = refused(main, flags_of(checkpoints, text_files, run, *begun, *resume))
    assert error.what == "the weights that phase 'full' starts from are missing"
