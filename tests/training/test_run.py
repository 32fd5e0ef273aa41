"""What a process does once, before it trains."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from hf_finetune.training import run

FREEZES = "from hf_finetune.training.run import pass_over_imports as once; import gc, sys; {}; once(); print(gc.get_freeze_count())"


@pytest.mark.parametrize(("before", "freezes"), [("", True), ("sys.ps1 = '>>> '", False)])
def test_imports_are_passed_over_unless_somebody_works_interactively(before, freezes):
    code = FREEZES.format(before or "pass")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 100_000) == freezes


def test_only_the_first_run_of_a_process_does_so(monkeypatch):
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 7)
    monkeypatch.setattr(gc, "freeze", lambda: pytest.fail("frozen again"))
    run.pass_over_imports()
