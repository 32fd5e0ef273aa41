"""What ``predict`` writes: lists where a row has several answers, and no formula in a spreadsheet."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pytest

from hf_finetune.evaluation.prediction.answer_files import join_pieces, write_piece


def write(columns, path, pieces=1):
    """The columns in so many pieces, put together; what a reader of CSV sees of them as text."""
    table = pa.table(columns)
    size = -(-len(table) // pieces)
    files = [path.with_name(f"{number}{path.suffix}") for number in range(pieces)]
    for number, file in enumerate(files):
        write_piece(table.slice(number * size, size), file)
    join_pieces(files, table.schema, path)
    return pd.read_csv(path, dtype=str, keep_default_na=False) if path.suffix == ".csv" else None


@pytest.mark.parametrize("cell", ["=1+1", "+SUM(A1)", "-cmd|' /C calc'!A0", "@SUM(1)", "\tx", "\rx", "-", "=", "-1-1"])
def test_cells_of_the_users_data_are_no_formulas(cell, tmp_path):
    found = write({"id": [cell], "prediction": [cell], "probability": [0.5]}, tmp_path / "out.csv")
    assert found["id"][0] == f"'{cell}"
    assert found["prediction"][0] == f"'{cell}"


@pytest.mark.parametrize("cell", ["-1", "+1.5", "-2e-05", "a=b", "'quoted'", "", " =x", "7", "a\rb", 'a,"b"\nc'])
def test_other_cells_are_written_as_they_are(cell, tmp_path):
    assert write({"id": [cell], "prediction": ["x"]}, tmp_path / "out.csv")["id"][0] == cell


def test_numbers_are_left_alone_and_lose_no_digit(tmp_path):
    found = write({"id": ["0", "1"], "prediction": [-3.25, 1 / 3]}, tmp_path / "out.csv")
    assert list(found["prediction"]) == ["-3.25", "0.3333333333333333"]
    write({"id": ["0"], "prediction": [1 / 3]}, tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"id": "0", "prediction": 1 / 3}


def test_lists_are_json_in_csv_and_lists_elsewhere(tmp_path):
    columns = {"id": ["a", "b"], "prediction": [["jóy", "=x, y"], []], "probability": [[0.5, 0.25], []]}
    found = write(columns, tmp_path / "out.csv", pieces=2)
    assert [json.loads(cell) for cell in found["prediction"]] == [["jóy", "=x, y"], []]
    assert found["prediction"][0] == '["jóy", "=x, y"]'
    assert [json.loads(cell) for cell in found["probability"]] == [[0.5, 0.25], []]
    write(columns, tmp_path / "out.jsonl", pieces=2)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"id": "a", "prediction": ["jóy", "=x, y"], "probability": [0.5, 0.25]}
    write(columns, tmp_path / "out.parquet", pieces=2)
    back = pd.read_parquet(tmp_path / "out.parquet")
    assert [list(cell) for cell in back["prediction"]] == [["jóy", "=x, y"], []]


def test_cells_stay_formulas_where_nothing_would_run_them(tmp_path):
    write({"id": ["=1"], "prediction": ["x"]}, tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text())["id"] == "=1"


def test_a_piece_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_piece(pa.table({"id": ["a"], "\ud800": ["b"]}), tmp_path / "0.jsonl")
    assert not (tmp_path / "0.jsonl").exists()
