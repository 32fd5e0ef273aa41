"""The benchmark scripts answer, and their medians and ratios are what they are called."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


@pytest.fixture
def paired(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PYTHONPATH", "")  # the module adds to it
    from measure import paired

    return paired


def test_every_script_answers_help_and_stands_in_the_readme(python):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for script in SCRIPTS:
        done = python([script, "--help"])
        assert done.returncode == 0, script.name
        assert done.stdout.startswith("usage:"), script.name
        assert f"`{script.name}`" in readme


def test_the_ratio_is_the_median_of_the_ratios_within_the_pairs(paired):
    above, below = [10.0, 30.0, 100.0], [1.0, 10.0, 20.0]
    assert paired.ratio(above, below) == 5.0  # of 10, 3 and 5; the ratio of the medians is 3
    assert paired.median(above) == 30.0
    with pytest.raises(ValueError, match="shorter"):
        paired.ratio(above, below[:2])


def test_medians_are_taken_over_the_runs_of_a_side(paired):
    runs = [
        {"seconds": 3.0, "epoch_seconds": [9.0, 2.0, 4.0]},
        {"seconds": 1.0, "epoch_seconds": [9.0, 1.0]},
        {"seconds": 8.0, "epoch_seconds": [0.0, 5.0, 6.0, 100.0]},
    ]
    assert paired.median_of(runs, "seconds") == 3.0
    assert paired.steady_epochs(runs) == [3.0, 1.0, 6.0]  # the first epoch is left out


def test_sides_alternate_and_every_second_repeat_is_reversed(paired, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(paired, "run_side", lambda side, **_: calls.append(side) or {"seconds": len(calls)})
    runs = paired.alternate({"ours": ("a:x", {}), "peer": ("b:y", {})}, 3)
    assert calls == ["a:x", "b:y", "b:y", "a:x", "a:x", "b:y"]
    assert paired.values(runs["ours"], "seconds") == [1, 4, 5]
    assert paired.values(runs["peer"], "seconds") == [2, 3, 6]
    assert capsys.readouterr().err.splitlines()[2] == "2/3 peer"


def test_sides_that_do_unlike_work_are_not_compared(paired):
    paired.require_equal({"ours": [{"trainable": 5}], "peer": [{"trainable": 5}]}, "trainable")
    with pytest.raises(SystemExit, match="differ in trainable"):
        paired.require_equal({"ours": [{"trainable": 5}], "peer": [{"trainable": 6}]}, "trainable")


def test_a_side_is_a_fresh_process_with_its_own_peak_memory_and_caches(paired, tmp_path, monkeypatch):
    copy = tmp_path / "measure"
    copy.mkdir()
    for name in ("__init__.py", "child.py"):
        shutil.copy(FOLDER / "measure" / name, copy)
    (copy / "fruit.py").write_text("import os\ndef pear(**a): return a | {'cache': os.environ['HF_FINETUNE_CACHE']}\n")
    monkeypatch.setattr(paired, "FOLDER", tmp_path)
    one, other = (paired.run_side("fruit:pear", bare=True, weight=weight) for weight in (3, 4))
    assert (one["weight"], other["weight"], one["device"]) == (3, 4, "cpu")
    assert one["cache"] != other["cache"]
    assert 1 < one["peak_mb"] < 100  # not that of the process that started it
    with pytest.raises(SystemExit, match=r"fruit:plum failed[\s\S]*AttributeError"):
        paired.run_side("fruit:plum", bare=True)


def test_results_hold_the_table_and_the_single_runs(paired, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paired, "FOLDER", tmp_path)
    runs = {"ours": [{"seconds": 2.0}]}
    paired.publish("here/x.py", argparse.Namespace(quick=True), "Speed", ["who", "s"], [["ours", 1234.5]], runs)
    assert "1234" in capsys.readouterr().out
    found = json.loads((tmp_path / "results" / "x-quick.json").read_text())
    assert found["rows"] == [{"who": "ours", "s": 1234.5}]
    assert found["runs"] == runs
    assert found["machine"]["cpus"] == os.cpu_count()


def test_numbers_are_printed_with_three_digits(paired):
    assert [paired.format_cell(cell) for cell in (0.123, 12.34, 1234.5, 7, "x")] == ["0.12", "12.3", "1234", "7", "x"]
