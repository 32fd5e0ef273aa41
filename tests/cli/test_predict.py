"""What ``predict`` writes: lists where a row has several answers, and no formula in a spreadsheet."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from hf_finetune.cli.predict import _write


def read(frame, path):
    _write(frame, path)
    options = {"dtype": str, "keep_default_na": False}
    return pd.read_csv(path, **options)


@pytest.mark.parametrize("cell", ["=1+1", "+SUM(A1)", "-cmd|' /C calc'!A0", "@SUM(1)", "\tx", "\rx", "-", "=", "-1-1"])
def test_cells_of_the_users_data_are_no_formulas(cell, tmp_path):
    found = read(pd.DataFrame({"id": [cell], "prediction": [cell], "probability": [0.5]}), tmp_path / "out.csv")
    assert found["id"][0] == f"'{cell}"
    assert found["prediction"][0] == f"'{cell}"


@pytest.mark.parametrize("cell", ["-1", "+1.5", "-2e-05", "a=b", "'quoted'", "", " =x", "7"])
def test_other_cells_are_written_as_they_are(cell, tmp_path):
    assert read(pd.DataFrame({"id": [cell], "prediction": ["x"]}), tmp_path / "out.csv")["id"][0] == cell


def test_numbers_are_left_alone(tmp_path):
    found = read(pd.DataFrame({"id": ["0"], "prediction": [-3.25]}), tmp_path / "out.csv")
    assert found["prediction"][0] == "-3.25"


def test_lists_are_json_in_csv_and_lists_elsewhere(tmp_path):
    frame = pd.DataFrame({"id": ["a", "b"], "prediction": [["jóy", "=x, y"], []], "probability": [[0.5, 0.25], []]})
    found = read(frame, tmp_path / "out.csv")
    assert [json.loads(cell) for cell in found["prediction"]] == [["jóy", "=x, y"], []]
    assert found["prediction"][0] == '["jóy", "=x, y"]'
    assert [json.loads(cell) for cell in found["probability"]] == [[0.5, 0.25], []]
    _write(frame, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[0] == {"id": "a", "prediction": ["jóy", "=x, y"], "probability": [0.5, 0.25]}
    _write(frame, tmp_path / "out.parquet")
    back = pd.read_parquet(tmp_path / "out.parquet")
    assert [list(cell) for cell in back["prediction"]] == [["jóy", "=x, y"], []]


def test_cells_stay_formulas_where_nothing_would_run_them(tmp_path):
    _write(pd.DataFrame({"id": ["=1"], "prediction": ["x"]}), tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text())["id"] == "=1"
