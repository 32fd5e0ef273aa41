"""The command line of ``predict``: its flags reach the library, and what is asked wrongly is refused."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from hf_finetune.cli.main import main as hf_finetune


@pytest.fixture(scope="module")
def bert(classifiers):
    return classifiers("bert", ["negative", "positive"])


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "new.csv"
    path.write_bytes("nom;texte\nété;a good film\nhiver;\n".encode("cp1252"))
    return path


def test_every_flag_is_obeyed(bert, rows, tmp_path, capfd):
    flags = ["--encoding", "cp1252", "--delimiter", ";", "--text_columns", "texte", "--on_bad_row", "skip"]
    more = ["--batch_size", "1", "--top_k", "2", "--output", str(tmp_path / "out.jsonl")]
    assert hf_finetune(["predict", bert, str(rows), *flags, *more]) == 0
    said = capfd.readouterr()
    assert "2 predictions in" in said.out
    assert said.err == ""
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in found] == ["0", "1"]
    assert [sorted(row["top_labels"]) for row in found] == [["negative", "positive"]] * 2
    assert (tmp_path / "out.skipped.jsonl").read_text() == ""


def test_rows_that_are_left_out_are_said_and_listed(bert, tmp_path, capfd):
    source = tmp_path / "new.jsonl"
    source.write_text('{"text": "a good film"}\n{"text": null}\n')
    command = ["predict", bert, str(source), "--output", str(tmp_path / "out.csv")]
    assert hf_finetune(command) == 2
    said = capfd.readouterr().err.splitlines()[-2:]
    assert said[0].endswith("new.jsonl, column 'text': 1 of 2 rows have no text (rows 2)")
    assert said[1] == "fix: fill the texts in, or leave these rows out with --on_bad_row skip."
    assert hf_finetune([*command, "--on_bad_row", "skip"]) == 0
    listed = tmp_path / "out.skipped.jsonl"
    assert f"1 predictions in {tmp_path / 'out.csv'}; 1 rows are left out, see {listed}" in capfd.readouterr().out
    assert json.loads(listed.read_text()) == {"row": 2, "id": "1", "reason": "no text in column 'text'"}
    assert list(pd.read_csv(tmp_path / "out.csv")["id"]) == [0]


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--top_k", "0"], "error: --top_k: 0 classes a row are too few"),
        (["--top_k", "all"], "error: the command line: argument --top_k: invalid int value: 'all'"),
        (["--on_bad_row", "drop"], "error: the command line: argument --on_bad_row: invalid choice: 'drop'"),
        (["--encoding", "klingon"], "no encoding"),
    ],
)
def test_wrong_flags_are_refused(flags, error, bert, rows, tmp_path, capfd):
    assert hf_finetune(["predict", bert, str(rows), "--output", str(tmp_path / "out.csv"), *flags]) == 2
    assert error in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv"]


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(bert, rows, tmp_path, monkeypatch, capfd):
    from hf_finetune.evaluation.prediction.labeller import Labeller

    def stopped(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(Labeller, "predict", stopped)
    flags = ["--delimiter", ";", "--encoding", "cp1252", "--text_column", "texte", "--on_bad_row", "skip"]
    assert hf_finetune(["predict", bert, str(rows), "--output", str(tmp_path / "out.csv"), *flags]) == 130
    assert "the same command continues where it stopped" in capfd.readouterr().err
    assert not (tmp_path / "out.csv").exists()
