"""``--push_to_hub`` through the stock client against a Hub-compatible server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer

LOAD = """
import sys
sys.modules["hf_finetune"] = None
from transformers import pipeline
print("ANSWER", pipeline("text-classification", model="alice/films")("good film")[0]["label"])
"""


def shell(hub, *argv, token=None):
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "0"} | hub.environ(token=token)
    return subprocess.run([sys.executable, *argv], env=env, capture_output=True, text=True, check=False)


def train(hub, checkpoints, text_files, output, *flags, token=None):
    data = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
    command = ["-m", "hf_finetune", "train", "text-classification", "--model_name_or_path", checkpoints("bert"), *data]
    return shell(
        hub, *command, "--num_train_epochs", "1", "--output_dir", str(output), "--push_to_hub", *flags, token=token
    )


def text_of(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.suffix in (".json", ".yaml", ".md", ".log", ".html")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_the_pushed_model_is_whole_and_loads_from_the_hub(checkpoints, text_files, tmp_path):
    with HubServer(users={"hf_secret_token": "alice"}) as hub:
        done = train(hub, checkpoints, text_files, tmp_path, "--hub_model_id", "alice/films")
        assert done.returncode == 0, done.stderr[-2000:]
        files = hub.repos["model", "alice/films"].files
        assert {
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "README.md",
            "metrics.json",
            "config.yaml",
        } <= set(files)
        assert files["model.safetensors"] == (tmp_path / "model" / "model.safetensors").read_bytes()
        assert "hf_secret_token" not in text_of(tmp_path) + done.stdout + done.stderr
        published = b"\n".join(content for name, content in files.items() if name != "model.safetensors").decode()
        assert str(tmp_path) not in published
        assert str(Path(text_files["train"]).parent) not in published
        assert json.loads(files["metrics.json"])["test"]["rows"] == 21
        answer = shell(hub, "-c", LOAD)
        assert answer.stdout.split("ANSWER")[1].strip() in ("positive", "negative"), answer.stderr[-2000:]


@pytest.mark.parametrize(
    ("token", "repo", "reason"),
    [
        ("hf_wrong", "alice/films", "there is no valid token"),
        ("hf_reader", "alice/films", "may not write there"),
        ("hf_secret_token", "bob/films", "may not write there"),
    ],
)
def test_what_may_not_be_pushed_is_refused_before_training(token, repo, reason, checkpoints, text_files, tmp_path):
    users = {"hf_secret_token": "alice", "hf_reader": "alice"}
    with HubServer(users=users, read_only=("hf_reader",)) as hub:
        done = train(hub, checkpoints, text_files, tmp_path, "--hub_model_id", repo, token=token)
        assert done.returncode == 2, done.stderr[-2000:]
        error, fix = done.stderr.splitlines()[-2:]
        assert reason in error
        assert fix.startswith("fix: ")
        assert token not in done.stdout + done.stderr
        assert not (tmp_path / "checkpoints").exists()


def test_a_push_that_fails_leaves_the_run_whole(checkpoints, text_files, tmp_path):
    with HubServer(users={"hf_secret_token": "alice"}) as hub:
        hub.fail("POST", r"/commit/", 403)
        done = train(hub, checkpoints, text_files, tmp_path, "--hub_model_id", "films")
        assert done.returncode == 2, done.stderr[-2000:]
        assert "The run is whole in" in done.stderr.splitlines()[-1]
        assert (tmp_path / "model" / "model.safetensors").exists()
        assert (tmp_path / "predictions.parquet").exists()


def test_the_card_is_valid_and_names_no_folder(checkpoints, text_files, tmp_path):
    from huggingface_hub import ModelCard

    from hf_finetune.packaged import load_recipe, recipe_path

    data = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
    flags = ["--num_train_epochs", "1", "--output_dir", str(tmp_path / "films")]
    main = load_recipe(recipe_path("text-classification"))
    metrics = main(["--model_name_or_path", checkpoints("bert"), *data, *flags])
    text = (tmp_path / "films" / "README.md").read_text()
    card = ModelCard(text).data
    assert card.pipeline_tag == "text-classification"
    results = {result.metric_name: result.metric_value for result in card.eval_results}
    assert results["accuracy"] == pytest.approx(metrics["test"]["accuracy"], abs=1e-4)
    assert card.eval_results[0].dataset_split == "test"
    assert "/tmp" not in text
    assert str(tmp_path) not in text
    assert 'pipeline("text-classification", model="films")' in text


def test_checkpoint_and_rows_come_from_the_hub(checkpoints, text_files, tmp_path):
    model = {path.name: path.read_bytes() for path in Path(checkpoints("bert")).iterdir()}
    rows = {f"{split}.csv": Path(path).read_bytes() for split, path in text_files.items()}
    with HubServer(users={"hf_secret_token": "alice"}) as hub:
        hub.add_repo("model", "alice/tiny-bert", files=model, private=True)
        hub.add_repo("dataset", "alice/films-data", files=rows, private=True)
        command = ["-m", "hf_finetune", "train", "text-classification", "--model_name_or_path", "alice/tiny-bert"]
        command += [
            "--dataset_name",
            "alice/films-data",
            "--num_train_epochs",
            "1",
            "--output_dir",
            str(tmp_path / "run"),
        ]
        done = shell(hub, *command)
        assert done.returncode == 0, done.stderr[-2000:]
        card = (tmp_path / "run" / "README.md").read_text()
        assert "base_model: alice/tiny-bert" in card
        assert "- alice/films-data" in card
        assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["rows"] == 21
        absent = shell(hub, *command[:-1], str(tmp_path / "other"), "--dataset_name", "alice/none")
        assert absent.returncode == 2
        assert "the Hub gave no such data set" in absent.stderr.splitlines()[-2]
