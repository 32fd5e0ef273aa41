"""Two processes do what one does: same rows counted once, same metrics, same steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def launch(python):
    """``launch(processes, recipe, *flags)`` gives what was printed."""

    def launch(processes, recipe, *flags):
        done = python([f"recipes/{recipe}.py", *flags], cwd=REPOSITORY, processes=processes, alone=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return launch


@pytest.mark.parametrize("extra", [(), ("--balanced_sampling", "--focal_gamma=2")], ids=["plain", "balanced"])
def test_text_in_two_processes_equals_one(extra, launch, checkpoints, text_files, tmp_path):
    """The same predictions and metrics; the evaluation between the epochs counts each of 21 rows once."""
    data = ["--train_file", text_files["train"], "--validation_file", text_files["test"], "--test_file"]
    fixed = ["--num_train_epochs", "3", "--learning_rate", "5e-3", "--bf16", "false", "--metric", "f1_macro"]
    evaluated = ["--per_device_eval_batch_size", "4", "--save_total_limit", "9"]
    flags = ["--model_name_or_path", checkpoints("bert-without-dropout"), *data, text_files["test"], *fixed, *evaluated]
    histories = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        said = launch(processes, "text_classification", *flags, *extra, "--output_dir", str(output))
        assert said.count("Results") == 1  # one process speaks
        state = json.loads(next(output.glob("checkpoints/1-full/checkpoint-12/trainer_state.json")).read_text())
        histories.append([entry for entry in state["log_history"] if "eval_loss" in entry])
    one, two = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("1", "2"))
    assert (one["timing"]["processes"], two["timing"]["processes"]) == (1, 2)
    assert two["test"]["rows"] == 21
    assert two["test"] == pytest.approx(one["test"], rel=1e-4)
    frames = [pd.read_parquet(tmp_path / n / "predictions.parquet") for n in ("1", "2")]
    assert list(frames[0]["id"]) == list(frames[1]["id"]) == [str(i) for i in range(21)]
    assert list(frames[0]["prediction"]) == list(frames[1]["prediction"])
    assert len(histories[0]) == len(histories[1]) == 3
    for one, two in zip(*histories, strict=True):
        for name in ("eval_accuracy", "eval_f1_macro", "eval_mcc"):
            assert two[name] == pytest.approx(one[name], abs=1e-9)
        assert one["eval_accuracy"] * 21 == pytest.approx(round(one["eval_accuracy"] * 21))


def test_chunks_of_long_texts_are_pooled_alike_in_two_processes(launch, checkpoints, tmp_path):
    import csv

    from conftest import make_texts

    files = {}
    for split, count in {"train": 32, "validation": 21, "test": 13}.items():  # 1, 2 or 3 chunks a row
        sentences = make_texts(count * 3, seed=count)
        rows = [
            (" ".join(s for s, _ in sentences[i * 3 : i * 3 + 1 + i % 3]), sentences[i * 3][1]) for i in range(count)
        ]
        files[split] = tmp_path / f"{split}.csv"
        with files[split].open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    data = [word for split, path in files.items() for word in (f"--{split}_file", str(path))]
    # Next to nothing is learned: processes that share an odd number of chunks take other steps than one process does.
    fixed = ["--num_train_epochs", "1", "--learning_rate", "1e-8", "--bf16", "false", "--metric", "loss"]
    chunks = [
        "--long_text",
        "chunk",
        "--max_length",
        "10",
        "--per_device_eval_batch_size",
        "4",
        "--save_total_limit",
        "9",
    ]
    logs, tests = [], []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        model = ["--model_name_or_path", checkpoints("bert-without-dropout"), "--output_dir", str(output)]
        launch(processes, "text_classification", *model, *data, *fixed, *chunks)
        state = max(output.glob("checkpoints/1-full/*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
        history = json.loads(state.read_text())["log_history"]
        logs.append([entry for entry in history if "eval_loss" in entry])
        tests.append(json.loads((output / "metrics.json").read_text()))
    assert tests[1]["timing"]["processes"] == 2
    assert tests[1]["test"]["rows"] == 13
    assert tests[1]["test"] == pytest.approx(tests[0]["test"], rel=1e-4)
    assert len(logs[0]) == len(logs[1]) == 1
    for one, two in zip(*logs, strict=True):
        for name in ("eval_loss", "eval_accuracy", "eval_auroc"):
            assert two[name] == pytest.approx(one[name], rel=1e-4)
        assert one["eval_accuracy"] * 21 == pytest.approx(round(one["eval_accuracy"] * 21))


def test_images_in_two_processes_equal_one(launch, checkpoints, image_folder, tmp_path):
    flags = ["--model_name_or_path", checkpoints("timm-resnet"), "--dataset_name", image_folder, "--strategy", "head"]
    flags += ["--num_train_epochs", "2", "--bf16", "false"]
    for processes in (1, 2):
        whole_steps = ["--per_device_train_batch_size", str(24 // processes)]
        launch(processes, "image_classification", *flags, *whole_steps, "--output_dir", str(tmp_path / str(processes)))
    one, two = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("1", "2"))
    assert two["timing"]["processes"] == 2
    assert two["test"] == pytest.approx(one["test"], rel=1e-4)


def test_the_command_line_starts_two_processes_and_an_adapter_is_judged_whole(checkpoints, text_files, tmp_path):
    data = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
    command = [sys.executable, "-m", "hf_finetune", "train", "text-classification", "--accelerate_config", "cpu"]
    flags = ["--num_processes", "2", "--model_name_or_path", checkpoints("bert"), *data, "--strategy", "lora"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    whole = [*command, *flags, "--num_train_epochs", "1", "--output_dir", str(tmp_path / "run")]
    done = subprocess.run(whole, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["timing"]["processes"] == 2
    assert metrics["test"]["rows"] == 21
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").exists()
