"""``hf-finetune push`` through the stock client: what arrives, what is refused, and how a push that broke off goes on."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from hf_finetune.cli.main import main as command_line
from hf_finetune.cli.push import main
from hf_finetune.errors import UserError

REPO = "alice/films"


def snapshot(run):
    """Every file's hash, but that of train.log: the process that trained writes on what it says later."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "train.log"]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def push(run, *flags, repo=REPO):
    main([str(run), "--hub_model_id", repo, *flags])


def files_of(hub, repo=REPO, branch="main"):
    files = dict(hub.repos["model", repo].branches[branch][-1].files)
    files.pop(".gitattributes", None)
    return files


def calls(hub, method, pattern):
    return [status for verb, path, status in hub.requests if verb == method and re.search(pattern, path)]


def refused(run, *flags, repo=REPO):
    """The error of a push, after which the run is as it was."""
    before = snapshot(run)
    with pytest.raises(UserError) as caught:
        push(run, *flags, repo=repo)
    assert snapshot(run) == before
    return caught.value


def finish(error):
    """Run the command that an error ends with."""
    assert command_line(shlex.split(error.fix.split("then run: hf-finetune ")[1])) == 0


# What arrives


def test_everything_arrives_in_one_commit(hub, runs, capsys):
    run = runs("full")
    before = snapshot(run)
    push(run)
    assert snapshot(run) == before
    files = files_of(hub)
    model = {path.name: path.read_bytes() for path in (run / "model").iterdir()}
    beside = {"README.md", "metrics.json", "config.yaml", "report.html"}
    assert files.keys() == model.keys() | beside | {"figures/confusion_matrix.png", "figures/reliability.png"}
    assert files["model.safetensors"] == model["model.safetensors"]
    assert files["metrics.json"] == (run / "metrics.json").read_bytes()
    commits = hub.repos["model", REPO].commits
    assert [commit.title for commit in commits] == ["initial commit", "Fine-tuned with hf-finetune"]
    assert f"{hub.url}/{REPO}/commit/{commits[-1].oid}" in capsys.readouterr().out


def test_the_card_names_the_repository(hub, runs):
    push(runs("full"), repo="films")  # in the user's own namespace
    card = files_of(hub)["README.md"].decode()
    assert f'model="{REPO}"' in card
    assert 'model="full"' not in card


@pytest.mark.parametrize(("flags", "private"), [((), False), (("--hub_private_repo",), True)])
def test_private_and_public(flags, private, hub, runs):
    push(runs("full"), *flags)
    assert hub.repos["model", REPO].private is private


def test_a_branch_is_made_and_main_stays(hub, runs):
    push(runs("full"), "--hub_revision", "dev/1", "--commit_message", "Try it")
    repo = hub.repos["model", REPO]
    assert len(repo.commits) == 1
    assert repo.branches["dev/1"][-1].title == "Try it"
    push(runs("full"), "--hub_revision", "dev/1")  # it is there now
    assert "model.safetensors" in files_of(hub, branch="dev/1")


def test_a_pull_request_needs_no_right_to_write(hub, runs, capsys):
    hub.add_repo("model", "bob/films")
    push(runs("full"), "--create_pr", repo="bob/films")
    repo = hub.repos["model", "bob/films"]
    assert "model.safetensors" in repo.branches["refs/pr/1"][-1].files
    assert len(repo.commits) == 1
    assert f"{hub.url}/bob/films/discussions/1" in capsys.readouterr().out


def test_an_adapter_is_pushed_as_it_is_and_its_local_base_is_said(hub, runs, capsys):
    push(runs("lora"), "--adapter_only")
    files = files_of(hub)
    assert files["adapter_model.safetensors"] == (runs("lora") / "model" / "adapter_model.safetensors").read_bytes()
    assert "model.safetensors" not in files
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "bert"
    assert f'PeftModel.from_pretrained(base, "{REPO}")' in files["README.md"].decode()
    assert "base is the local folder bert, which others do not have" in capsys.readouterr().out


def test_a_merged_adapter_is_a_whole_model_with_the_same_logits(hub, runs, tmp_path):
    import numpy as np
    import pandas as pd
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run = runs("lora")
    before = snapshot(run)
    push(run, "--merged")
    assert snapshot(run) == before
    files = files_of(hub)
    assert "model.safetensors" in files
    assert not [name for name in files if name.startswith("adapter")]
    card = files["README.md"].decode()
    assert "library_name: transformers" in card
    assert f'pipeline("text-classification", model="{REPO}")' in card
    assert "peft" not in card
    for name, content in files.items():
        if "/" not in name:
            (tmp_path / name).write_bytes(content)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    rows = pd.read_parquet(run / "predictions.parquet")
    test_file = yaml.safe_load((run / "config.yaml").read_text())["test_file"]
    texts = [row["text"] for row in csv.DictReader(Path(test_file).read_text(encoding="utf-8").splitlines())]
    inputs = AutoTokenizer.from_pretrained(tmp_path)(texts, padding=True, truncation=True, return_tensors="pt")
    np.testing.assert_allclose(model(**inputs).logits.detach().numpy(), np.stack(rows["logits"]), atol=1e-5)


def test_a_merge_that_changes_the_answers_is_not_pushed(hub, runs, monkeypatch):
    from peft.tuners.lora import LoraModel

    merge = LoraModel.merge_and_unload

    def wrong(adapter):
        merged = merge(adapter)
        merged.classifier.bias.data[0] += 0.01
        return merged

    monkeypatch.setattr(LoraModel, "merge_and_unload", wrong)
    error = refused(runs("lora"), "--merged")
    assert re.match(r"the merged model's logits differ from the adapter's by \d", error.what)
    assert hub.repos == {}


def test_weights_of_another_kind_are_removed_and_other_files_stay(hub, runs, capsys):
    push(runs("lora"))
    repo = hub.repos["model", REPO]
    repo.add_commit("main", "notes", {**repo.files, "notes.txt": b"mine", "onnx/model.onnx": b"o"}, ())
    push(runs("full"))
    files = files_of(hub)
    assert not [name for name in files if name.startswith("adapter")]
    assert files["notes.txt"] == b"mine"
    assert files["onnx/model.onnx"] == b"o"
    assert "belongs to other weights: adapter_config.json" in capsys.readouterr().out


def test_pushing_the_same_again_changes_nothing(hub, runs):
    push(runs("full"))
    sent = hub.received["/lfs/" + lfs_oid(runs("full"))]
    push(runs("full"))
    assert len(hub.repos["model", REPO].commits) == 2
    assert hub.received["/lfs/" + lfs_oid(runs("full"))] == sent


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("token", "repo", "what"),
    [
        ("hf_wrong", REPO, "there is no valid token"),
        ("", REPO, "there is no valid token"),
        ("hf_reader", REPO, "has read access only"),
        ("hf_alice", "bob/films", "alice is not a member"),
        ("hf_carol", "team/films", "carol has read access only"),
        ("hf_fine", REPO, "do not include write access to alice"),
    ],
)
def test_tokens_that_may_not_write(token, repo, what, hub, runs, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    error = refused(runs("full"), repo=repo)
    assert what in error.what
    assert error.where == f"--hub_model_id {repo}"
    assert hub.repos == {}


@pytest.mark.parametrize(
    ("token", "repo"), [("hf_alice", "team/films"), ("hf_fine", "team/x"), ("hf_fine", "alice/one")]
)
def test_tokens_that_may_write(token, repo, hub, runs):
    push(runs("full"), "--hub_token", token, repo=repo)
    assert "model.safetensors" in files_of(hub, repo)


@pytest.mark.parametrize("name", ["a/b/c", "-films", "fil--ms", "films.git", "fi lms", "x" * 97])
def test_names_that_the_hub_does_not_take(name, hub, runs):
    with pytest.raises(UserError, match="a name on the Hub has at most 96 letters"):
        main([str(runs("full")), f"--hub_model_id={name}"])
    assert hub.requests == []


@pytest.mark.parametrize(("is_private", "asked", "is_now"), [(False, "true", "public"), (True, "false", "private")])
def test_a_repository_of_the_other_visibility(is_private, asked, is_now, hub, runs):
    hub.add_repo("model", REPO, private=is_private)
    error = refused(runs("full"), "--hub_private_repo", asked)
    assert f"the repository is {is_now}" in error.what
    assert f"hf repos settings {REPO} --" in error.fix


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("license: my own", '"license" must be one of'),
        ("language: English", '"language[0]" must only contain lowercase'),
        ("base_model: /data/models/bert", '"base_model" with value "/data/models/bert" is not valid'),
        ("tags: [a", "while parsing a flow sequence"),
    ],
)
def test_cards_that_the_hub_does_not_take(header, message, hub, runs, tmp_path):
    run = copied(runs("full"), tmp_path)
    card = (run / "README.md").read_text(encoding="utf-8")
    (run / "README.md").write_text(card.replace("---\n", f"---\n{header}\n", 1), encoding="utf-8")
    error = refused(run)
    assert error.what.startswith("the Hub rejects the card's metadata: ")
    assert message in error.what
    assert error.where == "README.md"
    assert hub.repos == {}


def test_other_refusals(hub, runs, tmp_path):
    assert "this is not a finished run; model/config.json is missing" in refused(tmp_path).what
    assert "no adapter to merge" in refused(runs("full"), "--merged").what
    assert "names another" in refused(runs("full"), "--create_pr", "--hub_revision", "dev").what
    assert "a pull request needs an existing repository" in refused(runs("full"), "--create_pr", repo="bob/none").what
    hub.add_repo("model", REPO)
    assert "only a branch" in refused(runs("full"), "--hub_revision", "0" * 40).what
    assert "does not allow this name for a branch" in refused(runs("full"), "--hub_revision", "refs/pr/9").what
    with pytest.raises(UserError, match="true or false is expected"):
        push(runs("full"), "--hub_private_repo", "maybe")
    assert files_of(hub) == {}


def test_offline(hub, runs, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused(runs("full")).what


# What breaks off on the way, and how it goes on


def lfs_oid(run):
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints"))


COMMIT = r"/commit/"
LFS_BATCH = r"/lfs/objects/batch$"
LFS_PUT = r"^/lfs/[0-9a-f]{64}$"
PREUPLOAD = r"/preupload/"


@pytest.mark.parametrize(
    ("method", "pattern", "status", "what"),
    [
        ("POST", COMMIT, 401, "there is no valid token"),
        ("POST", COMMIT, 403, "the token has no write access"),
        ("POST", COMMIT, 404, "there is no such namespace, repository or branch"),
        ("POST", COMMIT, 409, "the repository was changed during the push"),
        ("POST", COMMIT, 412, "the repository was changed during the push"),
        ("POST", COMMIT, 429, "the Hub's rate limit is reached"),
        ("POST", COMMIT, 500, "the Hub is not available (status 500)"),
        ("POST", COMMIT, 503, "the Hub is not available (status 503)"),
        ("PUT", LFS_PUT, 403, "the token has no write access"),
        ("PUT", LFS_PUT, 500, "the Hub is not available (status 500)"),
        ("POST", LFS_BATCH, 403, "the token has no write access"),
        ("POST", LFS_BATCH, 429, "the Hub's rate limit is reached"),
    ],
)
def test_a_refusal_on_the_way_says_what_was_sent_and_the_command_finishes_it(method, pattern, status, what, hub, runs):
    run = runs("full")
    hub.fail(method, pattern, status, times=30)
    error = refused(run, "--hub_private_repo", "--commit_message", "It's done")
    assert error.what.startswith(what)
    assert files_of(hub) == {}  # nothing shows
    sent = pattern == COMMIT
    assert ("uploaded: model.safetensors" if sent else "nothing was uploaded") in error.what
    assert ("not yet: config.json" if sent else "not yet: model.safetensors") in error.what
    assert f"the run in {run} is complete" in error.what
    hub.faults.clear()
    arrived = hub.received[f"/lfs/{lfs_oid(run)}"]
    finish(error)
    assert hub.repos["model", REPO].private
    assert hub.repos["model", REPO].commits[-1].title == "It's done"
    assert files_of(hub)["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    if sent:
        assert hub.received[f"/lfs/{lfs_oid(run)}"] == arrived  # not sent again


@pytest.mark.parametrize(
    ("pattern", "after"),
    [(LFS_PUT, 0), (LFS_PUT, 1), (LFS_PUT, 40_000), (LFS_BATCH, 1), (r"^/lfs/verify$", 1), (COMMIT, 0), (COMMIT, 3000)],
)
def test_a_connection_cut_at_any_byte(pattern, after, hub, runs):
    run = runs("full")
    hub.cut(pattern, after_bytes=after, times=30)
    error = refused(run)
    assert f"the connection to {hub.url} was lost" in error.what
    assert files_of(hub) == {}
    hub.faults.clear()
    finish(error)
    assert files_of(hub)["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    assert calls(hub, "PUT", LFS_PUT).count(200) == 3  # the weights and two images, each once


@pytest.mark.parametrize("pattern", ["/whoami-v2", "/validate-yaml", "/repos/create", PREUPLOAD])
def test_a_connection_cut_before_anything_was_sent(pattern, hub, runs):
    hub.cut(pattern, after_bytes=0, times=30)
    error = refused(runs("full"))
    assert "was lost" in error.what
    assert calls(hub, "PUT", "") == []
    assert error.fix.endswith("set HF_HUB_DISABLE_XET=1.")


@pytest.mark.parametrize("pattern", [PREUPLOAD, LFS_BATCH, LFS_PUT, r"^/lfs/verify$", COMMIT, "/whoami-v2", "/create$"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(pattern, status, hub, runs):
    method = "PUT" if pattern == LFS_PUT else "GET" if "whoami" in pattern else "POST"
    hub.fail(method, pattern, status, headers={"Retry-After": "3"})
    push(runs("full"))
    assert "model.safetensors" in files_of(hub)
    assert hub.slept in ([3.0], [4.0])  # ours, and the client's which adds a second


def test_a_busy_hub_is_asked_four_times_and_not_for_longer_than_a_minute(hub, runs, capsys):
    hub.fail("POST", COMMIT, 503, times=30)
    refused(runs("full"))
    assert calls(hub, "POST", COMMIT) == [503] * 4
    assert hub.slept == [1.0, 2.0, 4.0]
    assert "The Hub answered 503; trying again in 2 s." in capsys.readouterr().out
    hub.faults.clear()
    hub.fail("GET", "/whoami-v2", 429, times=30, headers={"Retry-After": "600"})
    assert refused(runs("full")).fix == "wait 600 s."


def test_uploads_are_tried_six_times(hub, runs):
    hub.cut(LFS_PUT, after_bytes=10_000, times=30)
    refused(runs("full"))
    assert calls(hub, "PUT", LFS_PUT) == [0] * 6
    assert hub.slept == [1, 2, 4, 8, 8]


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub, runs):
    hub.lose(COMMIT)
    error = refused(runs("full"))
    assert f"no commit was made to {REPO}, unless it succeeded before the connection was lost" in error.what
    finish(error)
    assert len(hub.repos["model", REPO].commits) == 2


def test_a_commit_of_somebody_else_in_between(hub, runs, monkeypatch):
    from huggingface_hub import HfApi

    create = HfApi.create_commit

    def late(self, *args, **kwargs):
        repo = hub.repos["model", REPO]
        repo.add_commit("main", "meanwhile", {**repo.files, "other.txt": b"x"}, ())
        return create(self, *args, **kwargs)

    monkeypatch.setattr(HfApi, "create_commit", late)
    error = refused(runs("full"))
    assert "the repository was changed during the push" in error.what
    monkeypatch.undo()


def test_a_merged_push_resumes_too(hub, runs):
    hub.fail("POST", COMMIT, 403)
    error = refused(runs("lora"), "--merged")
    assert error.fix.endswith("--merged")
    sent = sum(count for path, count in hub.received.items() if re.search(LFS_PUT, path))
    finish(error)  # merged anew, to the same bytes
    assert sum(count for path, count in hub.received.items() if re.search(LFS_PUT, path)) == sent
    assert "model.safetensors" in files_of(hub)


def test_large_objects_go_in_parts(hub, runs):
    run = runs("full")
    hub.part_bytes = 30_000
    large = [run / "model" / "model.safetensors", *(run / "figures").iterdir()]
    parts = [-(-file.stat().st_size // 30_000) for file in large if file.stat().st_size > 30_000]
    hub.cut(r"^/lfs/[0-9a-f]{64}/2$", after_bytes=10_000)
    push(run)
    assert files_of(hub)["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    assert calls(hub, "PUT", r"/lfs/[0-9a-f]{64}/\d+$").count(200) == sum(parts)
    assert hub.slept == [1]


@pytest.fixture
def ctrl_c():
    """Ctrl-C interrupts; a process that a script starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("call", ["model_info", "create_commit"])
def test_a_signal_ends_the_push_and_the_command_goes_on(number, call, hub, runs, monkeypatch, capfd):
    from huggingface_hub import HfApi

    from hf_finetune.publish.hub import push as pushing

    def interrupted(*_, **__):
        os.kill(os.getpid(), number)

    def upload_interrupted(*args):
        patch.setattr(HfApi, call, interrupted)
        return upload(*args)

    before, upload = snapshot(runs("full")), pushing.upload
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(pushing, "upload", upload_interrupted)
        status = command_line(["push", str(runs("full")), "--hub_model_id", REPO])
    assert status == 128 + number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert snapshot(runs("full")) == before
    first, command = capfd.readouterr().err.rstrip().splitlines()[-2:]
    assert first.startswith(f"interrupted by {signal.Signals(number).name}; ")
    assert ("uploaded: model.safetensors" if call == "create_commit" else "nothing was uploaded") in first
    assert files_of(hub) == {}
    assert command_line(shlex.split(command)[1:]) == 0
    assert "model.safetensors" in files_of(hub)


def test_without_xet_the_message_says_how_to_go_without_it(hub, runs, monkeypatch):
    from huggingface_hub import constants

    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    error = refused(runs("full"))
    assert "only Git LFS, set HF_HUB_DISABLE_XET=1" in error.fix
    assert "not yet: model.safetensors" in error.what
