"""Mean and spread over seeds."""

from __future__ import annotations

import json

import pytest

from hf_finetune.evaluation.seeds import summarise_seeds


def test_mean_and_spread(tmp_path, capsys):
    runs = {0: {"test": {"accuracy": 0.8, "rows": 9.0}}, 1: {"test": {"accuracy": 0.9, "rows": 9.0, "auroc": 1.0}}}
    found = summarise_seeds(tmp_path, runs)
    assert found == json.loads((tmp_path / "seeds.json").read_text())
    accuracy = found["test"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(0.85)
    assert accuracy["std"] == pytest.approx(0.0707, abs=1e-4)
    assert (accuracy["min"], accuracy["max"], accuracy["values"]) == (0.8, 0.9, [0.8, 0.9])
    assert "auroc" not in found["test"], "one of the runs does not have it"
    assert "2 seeds (0, 1), test rows" in capsys.readouterr().out


def test_one_seed_has_no_spread(tmp_path):
    assert summarise_seeds(tmp_path, {7: {"validation": {"loss": 0.5}}})["validation"]["loss"]["std"] == 0.0
