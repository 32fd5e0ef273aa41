"""What a process does once, before it trains, and what it writes into the run folder."""

from __future__ import annotations

import gc
import json

import pytest

from hf_finetune.training import run

FREEZES = """
import gc, sys
from hf_finetune.training.run import pass_over_imports
gc.unfreeze()  # the process that this is a fork of
{}
pass_over_imports()
print(gc.get_freeze_count())
"""


@pytest.mark.parametrize(("before", "freezes"), [("", True), ("sys.ps1 = '>>> '", False)])
def test_imports_are_passed_over_unless_somebody_works_interactively(before, freezes, python):
    code = FREEZES.format(before or "pass")
    done = python(["-c", code])
    assert (int(done.stdout) > 100_000) == freezes


def test_only_the_first_run_of_a_process_does_so(monkeypatch):
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(1))
    run.pass_over_imports.cache_clear()
    run.pass_over_imports()
    run.pass_over_imports()
    assert frozen == [1]


def test_phases_are_appended_and_a_repeated_one_is_replaced(tmp_path):
    run.save_history(tmp_path, "head", [{"epoch": 1, "loss": 0.9}])
    run.save_history(tmp_path, "full", [{"epoch": 1, "loss": 0.5}])
    run.save_history(tmp_path, "full", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4}])
    assert json.loads((tmp_path / "history.json").read_text()) == [
        {"phase": "head", "epoch": 1, "loss": 0.9},
        {"phase": "full", "epoch": 1, "loss": 0.5},
        {"phase": "full", "epoch": 2, "loss": 0.4},
    ]
