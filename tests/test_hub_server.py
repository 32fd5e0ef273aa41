"""The test server against the stock client, which runs in a subprocess since it reads HF_ENDPOINT at import time."""

import json
import os
import subprocess
import sys
import textwrap
from http.client import HTTPConnection

import pytest
from hub_server import HubServer

PRELUDE = """
import json, os, sys
from pathlib import Path
import huggingface_hub
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

api = HfApi()

def status_of(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except HfHubHTTPError as error:
        return [type(error).__name__, error.response.status_code]
    return None
"""

ROUND_TRIP = """
url = api.create_repo("tiny", private=True)
assert api.create_repo("alice/tiny", exist_ok=True) == url
first = api.upload_folder(repo_id=url.repo_id, folder_path=sys.argv[1], commit_message="Add the model")
again = api.upload_folder(repo_id=url.repo_id, folder_path=sys.argv[1])
info = api.model_info("alice/tiny", files_metadata=True)
snapshot = snapshot_download("alice/tiny")
single = hf_hub_download("alice/tiny", "model.safetensors", cache_dir=sys.argv[2])
result = {
    "user": api.whoami()["name"],
    "commits": [first.oid, again.oid, info.sha],
    "info": [info.id, info.private, info.pipeline_tag, info.card_data.license],
    "lfs": [sibling.rfilename for sibling in info.siblings if sibling.lfs],
    "files": api.list_repo_files("alice/tiny"),
    "top": [entry.path for entry in api.list_repo_tree("alice/tiny")],
    "paths": [entry.path for entry in api.get_paths_info("alice/tiny", ["sub dir", "config.json", "absent"])],
    "snapshot": snapshot,
    "single": single,
}
"""


def run_client(hub, code, *argv, **overrides):
    """Run ``code`` as a client of the server; returns what it assigned to ``result``."""
    script = PRELUDE + textwrap.dedent(code) + "\nprint(json.dumps(result))\n"
    env = {**os.environ, **hub.environ(), **overrides}
    command = [sys.executable, "-c", script, *map(str, argv)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def hub():
    with HubServer(users={"hf_alice": "alice", "hf_reader": "alice", "hf_bob": "bob"}, read_only={"hf_reader"}) as hub:
        yield hub


def statuses(hub, method, fragment):
    return [status for verb, path, status in hub.requests if verb == method and fragment in path]


def test_upload_and_download(hub, tmp_path):
    numpy = pytest.importorskip("numpy")
    safetensors_numpy = pytest.importorskip("safetensors.numpy")
    (tmp_path / "sub dir").mkdir()
    (tmp_path / "sub dir" / "ünicode.txt").write_text("hello", encoding="utf-8")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "empty.bin").touch()
    (tmp_path / "README.md").write_text("---\nlicense: mit\npipeline_tag: fill-mask\n---\n# Card\n")
    safetensors_numpy.save_file(
        {"weight": numpy.random.default_rng(0).random((64, 64))}, tmp_path / "model.safetensors"
    )
    local = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    home, other = tmp_path.with_name("home"), tmp_path.with_name("other")
    result = run_client(hub, ROUND_TRIP, tmp_path, other, **hub.environ(home=home))
    repo = hub.repos["model", "alice/tiny"]
    assert result["user"] == "alice"
    assert result["commits"] == [repo.commits[-1].oid] * 3
    assert [commit.title for commit in repo.commits] == ["initial commit", "Add the model"]
    assert result["info"] == ["alice/tiny", True, "fill-mask", "mit"]
    assert result["lfs"] == ["model.safetensors"]
    assert result["files"] == sorted([".gitattributes", *local])
    assert result["top"] == sorted({name.split("/")[0] for name in [".gitattributes", *local]})
    assert result["paths"] == ["sub dir", "config.json"]
    assert {name: content for name, content in repo.files.items() if name != ".gitattributes"} == local
    snapshot = {name: (home.joinpath(result["snapshot"], name)).read_bytes() for name in local}
    assert snapshot == local
    assert other.joinpath(result["single"]).read_bytes() == local["model.safetensors"]
    assert statuses(hub, "POST", "/api/repos/create") == [200, 409]
    assert statuses(hub, "PUT", "/lfs/") == [200]
    assert "hf_alice" not in repr(hub.requests)


def test_changes_branches_and_pull_requests(hub):
    hub.add_repo("model", "alice/tiny", {"a.txt": b"a", "dir/b.txt": b"b"})
    code = """
        repo = "alice/tiny"
        api.create_branch(repo, branch="dev/1")
        api.create_branch(repo, branch="dev/1", exist_ok=True)
        api.upload_file(repo_id=repo, path_or_fileobj=b"on dev", path_in_repo="a.txt", revision="dev/1")
        pull = api.upload_file(repo_id=repo, path_or_fileobj=b"proposed", path_in_repo="a.txt", create_pr=True)
        api.delete_file("a.txt", repo)
        api.delete_folder("dir", repo)
        read = lambda revision: Path(hf_hub_download(repo, "a.txt", revision=revision)).read_text()
        result = {
            "dev": read("dev/1"),
            "pull": [pull.pr_revision, read(pull.pr_revision)],
            "main": api.list_repo_files(repo),
            "absent": status_of(hf_hub_download, repo, "a.txt"),
            "revision": status_of(api.model_info, repo, revision="absent"),
            "stale": status_of(
                api.upload_file, repo_id=repo, path_or_fileobj=b"", path_in_repo="c", parent_commit="0" * 40
            ),
        }
    """
    result = run_client(hub, code)
    assert result == {
        "dev": "on dev",
        "pull": ["refs/pr/1", "proposed"],
        "main": [".gitattributes"],
        "absent": ["RemoteEntryNotFoundError", 404],
        "revision": ["RevisionNotFoundError", 404],
        "stale": ["HfHubHTTPError", 412],
    }


def test_tokens_and_permissions(hub, tmp_path):
    hub.add_repo("model", "alice/public", {"a.txt": b"a"})
    hub.add_repo("model", "alice/private", {"a.txt": b"a"}, private=True)
    code = """
        result = {
            "whoami": status_of(api.whoami),
            "create": status_of(api.create_repo, "alice/new", exist_ok=True),
            "upload": status_of(
                api.upload_file, repo_id="alice/public", path_or_fileobj=b"b", path_in_repo="b.txt"
            ),
            "public": status_of(api.model_info, "alice/public"),
            "private": status_of(api.model_info, "alice/private"),
            "download": status_of(hf_hub_download, "alice/private", "a.txt"),
        }
    """
    wrong = run_client(hub, code, HF_TOKEN="hf_wrong")
    assert wrong == {name: ["HfHubHTTPError", 401] for name in wrong}
    forbidden = {"create": ["HfHubHTTPError", 403], "upload": ["HfHubHTTPError", 403]}
    readable = {"whoami": None, "public": None, "private": None, "download": None}
    assert run_client(hub, code, HF_TOKEN="hf_reader") == {**forbidden, **readable}
    hidden = ["RepositoryNotFoundError", 404]
    stranger = {"whoami": None, "public": None, "private": hidden, "download": hidden}
    assert run_client(hub, code, **hub.environ("hf_bob", home=tmp_path)) == {**forbidden, **stranger}


def test_injected_failures(hub):
    hub.fail("POST", "/api/repos/create$", 409)
    hub.fail("POST", "/commit/main$", 500)
    hub.fail("PUT", "^/lfs/", 500)
    code = """
        upload = dict(repo_id="alice/tiny", path_or_fileobj=os.urandom(1000), path_in_repo="model.safetensors")
        result = [status_of(api.create_repo, "alice/tiny") for _ in range(3)]
        result += [status_of(api.upload_file, **upload) for _ in range(2)]
    """
    result = run_client(hub, code)
    conflict, crash = ["HfHubHTTPError", 409], ["HfHubHTTPError", 500]
    assert result == [conflict, None, conflict, crash, None]
    # The client tries an upload again by itself, but not a commit.
    assert statuses(hub, "PUT", "/lfs/") == [500, 200]
    assert statuses(hub, "POST", "/commit/") == [500, 200]
    assert len(hub.repos["model", "alice/tiny"].files["model.safetensors"]) == 1000


def test_cut_connections(hub):
    hub.cut("^/lfs/", after_bytes=100_000)
    hub.cut("/resolve/.*/model.bin$", after_bytes=200_000)
    code = """
        huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 10_000  # what came before the cut is lost by the chunk
        data = os.urandom(1_000_000)
        api.create_repo("alice/tiny")
        api.upload_file(repo_id="alice/tiny", path_or_fileobj=data, path_in_repo="model.bin")
        result = Path(hf_hub_download("alice/tiny", "model.bin")).read_bytes() == data
    """
    assert run_client(hub, code) is True
    assert statuses(hub, "PUT", "/lfs/") == [0, 200]
    assert statuses(hub, "GET", "/model.bin") == [200, 206]


@pytest.mark.slow  # the tests of push load what they pushed
def test_transformers_model(hub, tmp_path):
    pytest.importorskip("transformers")
    code = """
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
        from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

        folder = Path(sys.argv[1])
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
        (folder / "vocab.txt").write_text("\\n".join(words))
        BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
        size = dict(vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
        model = BertForSequenceClassification(BertConfig(**size, intermediate_size=8, max_position_embeddings=16))
        model.eval().save_pretrained(folder)
        (folder / "README.md").write_text("---\\npipeline_tag: text-classification\\n---\\n")
        api.create_repo("alice/tiny-bert")
        api.upload_folder(repo_id="alice/tiny-bert", folder_path=folder)

        loaded = AutoModelForSequenceClassification.from_pretrained("alice/tiny-bert").eval()
        inputs = AutoTokenizer.from_pretrained("alice/tiny-bert")("good bad", return_tensors="pt")
        assert inputs["input_ids"].tolist() == [[2, 5, 6, 3]]
        assert torch.equal(model(**inputs).logits, loaded(**inputs).logits)
        result = pipeline(model="alice/tiny-bert")("good")[0]
    """
    result = run_client(hub, code, tmp_path)
    assert result["label"] in ("LABEL_0", "LABEL_1")
    assert "model.safetensors" in hub.repos["model", "alice/tiny-bert"].commits[-1].lfs


def test_datasets(hub):
    pytest.importorskip("datasets")
    hub.add_repo("dataset", "alice/reviews", {"train.csv": b"text,label\ngood,1\nbad,0\n"}, private=True)
    code = """
        from datasets import Dataset, load_dataset

        loaded = load_dataset("alice/reviews", split="train")
        Dataset.from_dict({"number": [1, 2, 3]}).push_to_hub("alice/pushed")
        result = [loaded["text"][:], loaded["label"][:], load_dataset("alice/pushed", split="train")["number"][:]]
    """
    assert run_client(hub, code) == [["good", "bad"], [1, 0], [1, 2, 3]]


def test_closed_server_refuses_connections():
    with HubServer(users={"hf_alice": "alice"}) as hub:
        address = hub.url.removeprefix("http://")
        connection = HTTPConnection(address)
        connection.request("GET", "/api/whoami-v2", headers={"Authorization": "Bearer hf_alice"})
        assert json.load(connection.getresponse())["name"] == "alice"
    with pytest.raises(ConnectionRefusedError):
        connection.request("GET", "/api/whoami-v2")
