"""Options of training, each seen in what it changes."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
import torch

from hf_finetune.packaged import load_recipe, recipe_path


@pytest.fixture
def text(checkpoints, text_files, tmp_path):
    """Run the text recipe; returns metrics and the Trainer's log of the last phase."""

    def run(name, *flags, task="text-classification", data=None, model="bert"):
        data = data or [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
        output = tmp_path / name
        argv = ["--model_name_or_path", checkpoints(model), *data, "--output_dir", str(output)]
        argv += ["--save_total_limit", "9", *flags]  # otherwise the best checkpoint alone is left
        metrics = load_recipe(recipe_path(task))(argv)
        states = [json.loads(path.read_text()) for path in output.glob("checkpoints/*/checkpoint-*/trainer_state.json")]
        return metrics, max(states, key=lambda state: state["global_step"])["log_history"]

    return run


def losses(log):
    return [entry["loss"] for entry in log if "loss" in entry]


@pytest.mark.usefixtures("training_alone")
def test_accumulated_batches_equal_one_large_batch(text):
    every_step = ["--num_train_epochs", "2", "--logging_strategy", "steps", "--logging_steps", "1", "--bf16", "false"]
    _, large = text("large", *every_step, "--per_device_train_batch_size", "16", model="bert-without-dropout")
    accumulated = ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "8"]
    _, small = text("small", *every_step, *accumulated, model="bert-without-dropout")
    assert len(losses(large)) == len(losses(small)) == 8
    assert losses(small) == pytest.approx(losses(large), rel=1e-4)


@pytest.mark.usefixtures("training_alone")
def test_early_stopping_stops(text):
    flags = ["--num_train_epochs", "30", "--early_stopping_patience", "1", "--learning_rate", "1e-9"]
    _, log = text("stop", *flags, "--head_learning_rate", "1e-9")
    assert max(entry["epoch"] for entry in log) <= 3


@pytest.mark.usefixtures("training_alone")
def test_class_weights_move_answers_to_the_rare_class(text, tmp_path):
    import csv

    from conftest import make_texts

    rows = [row for i, row in enumerate(make_texts(200)) if row[1] == "positive" or i % 20 == 1]
    path = tmp_path / "skewed.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])  # 100 positive, 10 negative
    data = ["--train_file", str(path), "--test_file", str(path)]
    short = ["--num_train_epochs", "6", "--learning_rate", "2e-3", "--head_learning_rate", "2e-3", "--metric", "loss"]
    text("plain", *short, data=data)
    text("balanced", *short, "--class_weights", "balanced", data=data)

    def share_of_the_rare_class(name):
        frame = pd.read_parquet(tmp_path / name / "predictions.parquet")
        return frame["probability"].where(frame["prediction"] == "negative", 1 - frame["probability"]).mean()

    assert share_of_the_rare_class("plain") < 0.25
    assert share_of_the_rare_class("balanced") > 0.35


@pytest.mark.usefixtures("training_alone")
def test_mixed_images_train(text, image_folder):
    flags = ["--mixup", "0.2", "--cutmix", "1.0"]
    short = ["--num_train_epochs", "2", "--per_device_train_batch_size", "7"]  # the last batch is odd
    metrics, log = text(
        "mix", *short, *flags, task="image-classification", data=["--dataset_name", image_folder], model="timm-resnet"
    )
    assert metrics["test"]["rows"] == 13
    assert all(0 < loss < 5 for loss in losses(log))


def test_mixing_keeps_an_odd_row_as_it_is():
    from timm.data import Mixup

    from hf_finetune.tasks.inputs.image.encoding import mix_batch

    pixels, labels = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 3, 4, 4), torch.tensor([0, 1, 2, 0, 1])
    mix = Mixup(mixup_alpha=1.0, num_classes=3, label_smoothing=0.0)
    batch = mix_batch(mix, {"pixel_values": pixels, "labels": labels})
    mixed, targets = batch["pixel_values"], batch["labels"]
    assert mixed.shape == pixels.shape
    assert torch.equal(mixed[4], pixels[4])
    assert targets[4].tolist() == [0, 1, 0]
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 5)
    assert torch.equal(pixels, torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 3, 4, 4))


def test_texts_cannot_be_mixed(text):
    from hf_finetune.errors import UserError

    with pytest.raises(UserError, match="texts cannot be mixed"):
        text("mix", "--mixup", "0.2")


@pytest.mark.usefixtures("training_alone")
def test_the_metric_that_is_asked_for_chooses_the_epoch(text, tmp_path):
    _, log = text("loss", "--metric", "loss", "--num_train_epochs", "3")
    state = json.loads(next(tmp_path.glob("loss/checkpoints/1-full/checkpoint-*/trainer_state.json")).read_text())
    assert state["best_metric"] == pytest.approx(min(entry["eval_loss"] for entry in log if "eval_loss" in entry))


def test_a_run_without_held_out_rows_says_nothing_it_has_not_measured(text, text_files, tmp_path):
    data = ["--train_file", text_files["train"]]
    metrics, _ = text("bare", "--validation_split", "0", "--num_train_epochs", "1", data=data)
    assert set(metrics) == {"timing"}
    assert "the model was not evaluated" in (tmp_path / "bare" / "README.md").read_text()
    assert not (tmp_path / "bare" / "predictions.parquet").exists()


def test_without_test_rows_the_card_says_that_the_figures_are_optimistic(text, text_files, tmp_path):
    metrics, _ = text("held", "--num_train_epochs", "1", data=["--train_file", text_files["train"]])
    assert "test" not in metrics
    assert "optimistic" in (tmp_path / "held" / "README.md").read_text()


@pytest.mark.usefixtures("training_alone")
@pytest.mark.parametrize(
    "flags", [["--bf16"], ["--optim", "adafactor"], ["--lr_scheduler_type", "cosine"], ["--max_steps", "3"]]
)
def test_training_arguments_reach_the_trainer(flags, text):
    metrics, log = text("args", "--num_train_epochs", "1", *flags)
    assert metrics["test"]["rows"] == 21
    assert max(entry.get("step", 0) for entry in log) == (3 if "--max_steps" in flags else 4)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "head", "lora"])
def test_torch_compile_works_with_strategies(strategy, text):
    plain, _ = text("plain", "--num_train_epochs", "2", "--bf16", "false", "--strategy", strategy)
    flags = ["--torch_compile", "--num_train_epochs", "2", "--bf16", "false", "--strategy", strategy]
    compiled, _ = text("compiled", *flags)
    assert compiled["test"]["loss"] == pytest.approx(plain["test"]["loss"], abs=0.05)


def test_importing_the_package_keeps_openmp_from_spinning_and_loads_nothing_heavy():
    code = (
        "import os, sys; import hf_finetune, hf_finetune.cli.main;"
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules, 'transformers' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["PASSIVE", "False", "False", "False"]


def test_help_names_every_verb_and_flags_by_group(capsys):
    from hf_finetune.cli.main import VERBS, main

    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(verb in said for verb in VERBS)
    with pytest.raises(SystemExit) as ended:
        main(["train", "text-classification", "--help", "all"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for flag in (
        "--model_name_or_path",
        "--strategy",
        "--gradient_accumulation_steps",
        "training:",
    ):
        assert flag in said
    assert said.index("model:") < said.index("strategy:") < said.index("training:")
