"""Nothing private is published: folders, names and tokens are taken out where that is known to be right, or refused."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

import pytest
import yaml

from hf_finetune.errors import UserError
from hf_finetune.files import is_on_hub
from hf_finetune.publish.hub.contents import Private, files_to_push, find_leak, find_private, remove_private
from hf_finetune.publish.hub.destination import Destination

TO = Destination("alice/films", hub_token="hf_secret")
PRIVATE = Private(
    {"/home/josé/runs/a&b": "the run folder", "/home/josé": "the home folder", "/root": "the home folder"},
    frozenset({"data/secret.csv"}),
    "hf_secret",
)


@pytest.fixture
def run(runs, tmp_path):
    return Path(shutil.copytree(runs("full"), tmp_path / "films run", ignore=shutil.ignore_patterns("checkpoints")))


def settings_of(run):
    return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))


def published(run):
    files = files_to_push(run, TO)
    return {name: c if isinstance(c, bytes) else c.read_bytes() for name, c in files.items()}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("see /home/josé/runs/a&b.", "the run folder"),
        (json.dumps({"path": "/home/josé/runs/a&b"}), "the run folder"),
        (html.escape("<td>/home/josé/runs/a&b</td>"), "the run folder"),
        ("file:///home/jos%C3%A9/x", "the home folder"),
        ("/mnt/home/josé/x", None),
        ("/home/josé/other/x.csv", "the home folder"),
        ("/home/joséphine/x.csv", None),
        ("/root/x.csv", "the home folder"),
        ('"/root": 17', None),  # a word of a vocabulary
        ("a token hf_secret", "a token of the Hub"),
        ("hf_" + "aB3" * 8, "a token of the Hub"),
        ("data/secret.csv", None),
        ("/usr/bin, /etc and C:\\Windows are labels", None),
    ],
)
def test_what_is_found(text, what):
    assert find_leak(text, PRIVATE) == what


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("--train_file /home/josé/runs/a&b/x.csv", "--train_file x.csv"),
        ("--output_dir /home/josé/runs/a&b --seed 1", "--output_dir a&b --seed 1"),
        ("--train_file data/secret.csv", "--train_file secret.csv"),
        ("of 1/2 and /usr/bin", "of 1/2 and /usr/bin"),
    ],
)
def test_what_is_taken_out_of_pages(text, public):
    assert remove_private(text, PRIVATE) == public


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("google-bert/bert-base-uncased", False),
        ("bert-base-uncased", False),
        ("/models/bert", True),
        ("../bert", True),
        ("~/bert", True),
        ("a/b/c", True),
        ("C:\\models\\bert", True),
        ("tests/publish", True),
    ],
)
def test_what_is_a_local_path(name, local, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[3])
    assert is_on_hub(name) is not local


def test_a_run_names_what_is_private_of_it(run):
    settings = settings_of(run)
    private = find_private(run, settings, None)
    assert private.folders[str(run)] == "the run folder"
    assert private.folders[settings["train_file"]] == "the path of --train_file"
    assert private.folders[str(Path(settings["train_file"]).parent)].startswith("the folder of --")
    assert str(Path.home()) in private.folders
    assert "/" not in private.folders


def test_nothing_private_is_in_what_is_pushed(run):
    settings = settings_of(run)
    files = published(run)
    assert files["report.html"].startswith(b"<!doctype html>")
    public = yaml.safe_load(files["config.yaml"])
    assert (public["model_name_or_path"], public["train_file"]) == ("bert", "train.csv")
    assert public["output_dir"] == "full"
    assert {k: v for k, v in public.items() if not isinstance(v, str)} == {
        k: v for k, v in settings.items() if not isinstance(v, str)
    }
    for name, content in files.items():
        for secret in (str(run), str(run.parent), str(Path(settings["train_file"]).parent), str(Path.home()) + "/"):
            assert secret.encode() not in content, (name, secret)


def test_settings_that_are_no_paths_stay_as_they_are(run):
    given = {"text_column": "a/b/c", "lora_target_modules": ["x/y"], "hub_revision": "dev/1/2", "metric": "a\\b"}
    (run / "config.yaml").write_text(yaml.safe_dump(settings_of(run) | given), encoding="utf-8")
    public = yaml.safe_load(published(run)["config.yaml"])
    assert {key: public[key] for key in given} == given


@pytest.mark.parametrize(
    "labels", [["/usr/bin", "C:\\Windows"], ["../a", "b/c/d"], ["/root", "~/x"], ["data/secret.csv", "."]]
)
def test_labels_that_look_like_paths_are_published_as_they_are(labels, run):
    config = json.loads((run / "model" / "config.json").read_text())
    config |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    (run / "model" / "config.json").write_text(json.dumps(config))
    metrics = {"test_per_class": {f"{label}/f1": 1.0 for label in labels}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    files = published(run)
    assert list(json.loads(files["config.json"])["id2label"].values()) == labels
    assert json.loads(files["metrics.json"]) == metrics


@pytest.mark.parametrize("file", ["metrics.json", "model/config.json", "model/tokenizer_config.json", "config.yaml"])
@pytest.mark.parametrize(
    ("secret", "what"),
    [("RUN", "the run folder"), ("DATA", "the folder of --"), ("hf_secret", "a token of the Hub")],
)
def test_what_cannot_be_fixed_is_refused(file, secret, what, run):
    found = {"RUN": str(run), "DATA": str(Path(settings_of(run)["train_file"]).parent)}.get(secret, secret)
    path = run / file
    content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    path.write_text(json.dumps(content | {"note": f"from {found}/x"}), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        files_to_push(run, TO)
    assert caught.value.where == path.name
    assert caught.value.what.startswith(f"this file would publish {what}")
    assert "hf_secret" not in str(caught.value)


def test_origins_are_named_without_their_folder(run):
    for name in ("config.json", "tokenizer_config.json"):
        path = run / "model" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"_name_or_path": "/models/secret/bert"}))
    files = published(run)
    for name in ("config.json", "tokenizer_config.json"):
        assert json.loads(files[name])["_name_or_path"] == "bert"


def test_log_and_environment_and_rows_stay_at_home(run):
    stay = {"train.log", "environment.json", "predictions.parquet", "splits.parquet", "history.json", "evaluation.json"}
    for name in stay:
        (run / name).touch()
    assert not stay & published(run).keys()
