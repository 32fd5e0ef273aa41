"""``--push_to_hub`` through the stock client against a Hub-compatible server on loopback."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from pathlib import Path

import pytest
from hub_server import HubServer

LOAD = """
import sys
sys.modules["hf_finetune"] = None
from transformers import pipeline
classify = pipeline("text-classification", model="alice/films")
print("ANSWER", classify("good film")[0]["score"], classify.model.config.id2label)
"""
LOAD_ADAPTER = """
import sys
sys.modules["hf_finetune"] = None
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

config = AutoConfig.from_pretrained("alice/films")
base = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], config=config, ignore_mismatched_sizes=True)
model = PeftModel.from_pretrained(base, "alice/films").eval()
inputs = AutoTokenizer.from_pretrained("alice/films")("good film", return_tensors="pt")
print("ANSWER", model(**inputs).logits.softmax(-1).max().item(), config.id2label)
"""
RESUME = """
import sys
import huggingface_hub
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 10_000  # what came before the cut is lost by the chunk
path = huggingface_hub.hf_hub_download("alice/films", "model.safetensors")
print("ANSWER", open(path, "rb").read() == open(sys.argv[1], "rb").read())
"""


@pytest.fixture(scope="module")
def shell(python):
    """``shell(hub, *argv)`` runs ``python ARGV`` as a client of the server."""
    return lambda hub, *argv, token=None: python(argv, env=os.environ | hub.environ(token=token))


@pytest.fixture(scope="module")
def train(shell, checkpoints, text_files):
    """``train(hub, output, *flags)`` trains and pushes."""
    data = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
    command = ["-m", "hf_finetune", "train", "text-classification", "--model_name_or_path", checkpoints("bert"), *data]
    command += ["--num_train_epochs", "1", "--push_to_hub"]
    return lambda hub, output, *flags, token=None: shell(
        hub, *command, "--output_dir", str(output), *flags, token=token
    )


def text_of(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.suffix in (".json", ".yaml", ".md", ".log", ".html")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_the_pushed_model_is_whole_and_loads_from_the_hub(train, shell, text_files, tmp_path):
    with HubServer(users={"hf_secret_token": "alice"}) as hub:
        done = train(hub, tmp_path, "--hub_model_id", "alice/films")
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
        texts = [content for name, content in files.items() if not name.endswith((".safetensors", ".png"))]
        published = b"\n".join(texts).decode()
        assert str(tmp_path) not in published
        assert str(Path(text_files["train"]).parent) not in published
        assert json.loads(files["metrics.json"])["test"]["rows"] == 21
        about = json.loads((tmp_path / "evaluation.json").read_text())
        assert about["top_losses"]
        assert not [row["text"] for row in about["top_losses"] if row["text"] in published], "rows of the data"
        hub.cut("/resolve/.*/model.safetensors$", after_bytes=40_000)
        resumed = shell(hub, "-c", RESUME, str(tmp_path / "model" / "model.safetensors"))
        assert resumed.stdout.split()[-2:] == ["ANSWER", "True"], resumed.stderr[-2000:]
        answers = [
            status for verb, path, status in hub.requests if verb == "GET" and path.endswith("/model.safetensors")
        ]
        assert answers == [200, 206]  # the second download goes on where the first was cut
        answer = shell(hub, "-c", LOAD)
        assert float(answer.stdout.split("ANSWER")[1].split()[0]) == pytest.approx(local_score(tmp_path), abs=1e-5)


def local_score(run: Path) -> float:
    from transformers import pipeline

    return pipeline("text-classification", model=str(run / "model"))("good film")[0]["score"]


def test_what_may_not_be_pushed_is_refused_before_training(train, tmp_path):
    with HubServer(users={"hf_secret_token": "alice"}) as hub:
        done = train(hub, tmp_path, "--hub_model_id", "alice/films", token="hf_wrong")
        assert done.returncode == 2, done.stderr[-2000:]
        error, fix = done.stderr.splitlines()[-2:]
        assert error == "error: --hub_model_id alice/films: there is no valid token"
        assert fix == "fix: run 'hf auth login', or set HF_TOKEN."
        assert "hf_wrong" not in done.stdout + done.stderr
        assert not (tmp_path / "checkpoints").exists()


def test_a_push_that_fails_leaves_the_run_whole_and_its_command_finishes_it(train, shell, checkpoints, tmp_path):
    run = tmp_path / "two words"
    with HubServer(users={"hf_secret_token": "alice"}) as hub:
        hub.fail("POST", r"/commit/", 403)
        flags = ["--hub_model_id", "films", "--hub_private_repo", "--hub_revision", "dev", "--strategy", "lora"]
        done = train(hub, run, *flags)
        assert done.returncode == 2, done.stderr[-2000:]
        error, fix = done.stderr.splitlines()[-2:]
        uploaded, left = error.split("uploaded: ")[1].split("; not yet: ")
        figures = {"figures/confusion_matrix.png", "figures/reliability.png"}
        assert set(uploaded.split(", ")) == {"adapter_model.safetensors", *figures}
        assert left.startswith("adapter_config.json, ")
        assert f"the run in {run} is complete" in error
        command = fix.split("then run: ")[1]
        flags = "--hub_model_id alice/films --hub_private_repo true --hub_revision dev"
        assert command == f"hf-finetune push '{run}' {flags}"
        assert (run / "predictions.parquet").exists()
        repo = hub.repos["model", "alice/films"]
        assert len(repo.branches["dev"]) == 1
        done = shell(hub, "-m", "hf_finetune", *shlex.split(command)[1:])
        assert done.returncode == 0, done.stderr[-2000:]
        assert repo.private
        assert "adapter_model.safetensors" in repo.branches["dev"][-1].files
        assert [status for verb, _, status in hub.requests if verb == "PUT"] == [200] * 3
        repo.branches["main"] = repo.branches["dev"]
        answer = shell(hub, "-c", LOAD_ADAPTER, checkpoints("bert"))
        assert "ANSWER" in answer.stdout, answer.stderr[-2000:]
        probability = float(answer.stdout.split("ANSWER")[1].split()[0])
        assert probability == pytest.approx(adapter_score(run), abs=1e-5)


def adapter_score(run: Path) -> float:
    from transformers import AutoTokenizer

    from hf_finetune.models import load_artifact

    model = load_artifact(run / "model", "AutoModelForSequenceClassification")
    inputs = AutoTokenizer.from_pretrained(run / "model")("good film", return_tensors="pt")
    return model(**inputs).logits.softmax(-1).max().item()


@pytest.fixture(scope="module")
def run(checkpoints, text_files, tmp_path_factory) -> Path:
    """A run that was not pushed."""
    from hf_finetune import fine_tune

    files = {f"{split}_file": path for split, path in text_files.items()}
    folder = tmp_path_factory.mktemp("push") / "films"
    fine_tune(
        "text-classification", model_name_or_path=checkpoints("bert"), **files, num_train_epochs=1, output_dir=folder
    )
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_client_waits_ends_the_push(number, run, python, tmp_path):
    """The client waits between its tries of an upload that is cut off again and again."""
    with HubServer(users={"hf_secret_token": "alice"}) as hub:
        hub.cut("^/lfs/", after_bytes=1000, times=30)
        command = ["-m", "hf_finetune", "push", str(run), "--hub_model_id", "alice/films"]
        push = python.start(command, tmp_path, os.environ | hub.environ())
        deadline = time.monotonic() + 120
        while not any(verb == "PUT" for verb, _, _ in hub.requests) and time.monotonic() < deadline:
            time.sleep(0.05)
        status, errors = push.end(number), push.stderr.read_text()
        assert status == 128 + number, errors[-2000:]
        first, again = errors.rstrip().splitlines()[-2:]
        assert (
            f"interrupted by {signal.Signals(number).name}; nothing was uploaded; not yet: model.safetensors" in first
        )
        assert shlex.split(again) == ["hf-finetune", "push", str(run), "--hub_model_id", "alice/films"]
        assert (run / "model" / "model.safetensors").exists()
        assert "Traceback" not in errors


def test_everything_is_checked_before_training(checkpoints, text_files, monkeypatch, tmp_path):
    """All before the first step; in this process, to which the server answers."""
    from hf_finetune import fine_tune
    from hf_finetune.errors import UserError

    def refused(**flags):
        given = {f"{split}_file": path for split, path in text_files.items()} | flags
        with pytest.raises(UserError) as caught:
            fine_tune(
                "text-classification",
                model_name_or_path=checkpoints("bert"),
                output_dir=tmp_path / "run",
                push_to_hub=True,
                **given,
            )
        assert not (tmp_path / "run").exists()
        return caught.value

    users = {"hf_secret_token": "alice", "hf_reader": "alice"}
    with HubServer(users=users, read_only=["hf_reader"]) as hub, hub.client(monkeypatch):
        hub.add_repo("model", "alice/mine")
        assert "has read access only" in refused(hub_model_id="films", hub_token="hf_reader").what
        assert "alice is not a member" in refused(hub_model_id="bob/films").what
        assert "the repository is public" in refused(hub_model_id="mine", hub_private_repo=True).what
        assert '"license" must be one of' in refused(hub_model_id="films", license="my own").what
        hub.fail("POST", "/validate-yaml", 400)
        assert "rejects the card's metadata: Injected failure" in refused(hub_model_id="films").what
        assert "does not allow this name" in refused(hub_model_id="films", hub_revision="refs/x").what
        assert "a pull request needs an existing repository" in refused(hub_model_id="bob/films", create_pr=True).what
        assert "a name on the Hub has at most 96" in refused(hub_model_id="no good").what
        rows = tmp_path / "rows.csv"
        folder = tmp_path / "run"
        rows.write_text("text,label\n" + "".join(f"film {i},{(folder, 'x')[i % 2]}\n" for i in range(20)))
        error = refused(hub_model_id="films", train_file=rows, validation_file=None, test_file=None)
        assert error.what == "this file would publish the run folder"
        assert error.where == f"the label {str(folder)!r}"


def test_the_card_is_valid_and_names_no_folder(run):
    from huggingface_hub import ModelCard

    text = (run / "README.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    card = ModelCard(text).data
    assert card.pipeline_tag == "text-classification"
    results = {result.metric_name: result.metric_value for result in card.eval_results}
    assert results["accuracy"] == pytest.approx(metrics["test"]["accuracy"], abs=1e-4)
    assert card.eval_results[0].dataset_split == "test"
    assert "/tmp" not in text
    assert str(run.parent) not in text
    assert 'pipeline("text-classification", model="films")' in text


def test_checkpoint_and_rows_come_from_the_hub(shell, checkpoints, text_files, tmp_path):
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
