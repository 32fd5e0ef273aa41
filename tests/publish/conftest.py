"""Two small runs, whole and adapter, that the tests of publishing share, and a Hub on loopback."""

from __future__ import annotations

import pytest
from hub_server import HubServer

TOKENS = {"hf_alice": "alice", "hf_reader": "alice", "hf_fine": "alice", "hf_carol": "carol"}


@pytest.fixture(scope="session")
def runs(checkpoints, text_files, tmp_path_factory):
    """Folder of a run by its strategy, made when it is first asked for: ``runs("full")``, ``runs("lora")``."""
    root = tmp_path_factory.mktemp("runs")

    def get(strategy: str):
        folder = root / strategy
        if not folder.exists():
            from hf_finetune import fine_tune

            files = {f"{split}_file": path for split, path in text_files.items()}
            flags = {"strategy": strategy, "num_train_epochs": 1, "bf16": False, "output_dir": folder}
            fine_tune("text-classification", model_name_or_path=checkpoints("bert"), **files, **flags)
        return folder

    return get


@pytest.fixture
def hub(monkeypatch):
    """The server, to which the stock client of this process speaks; ``hub.slept`` lists the waits between tries."""
    orgs = {"team": {"alice": "write", "carol": "read"}}
    server = HubServer(TOKENS, read_only=("hf_reader",), orgs=orgs, scopes={"hf_fine": ["team", "alice/one"]})
    with server as hub, hub.client(monkeypatch) as hub.slept:
        yield hub
