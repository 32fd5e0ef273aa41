"""history.json contains each phase once, in order."""

from __future__ import annotations

import json

from hf_finetune.training.history import save_history


def test_phases_are_appended_and_a_repeated_one_is_replaced(tmp_path):
    save_history(tmp_path, "head", [{"epoch": 1, "loss": 0.9}])
    save_history(tmp_path, "full", [{"epoch": 1, "loss": 0.5}])
    save_history(tmp_path, "full", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4}])
    assert json.loads((tmp_path / "history.json").read_text()) == [
        {"phase": "head", "epoch": 1, "loss": 0.9},
        {"phase": "full", "epoch": 1, "loss": 0.5},
        {"phase": "full", "epoch": 2, "loss": 0.4},
    ]
