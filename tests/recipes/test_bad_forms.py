"""Bad input in every form that data may have, through the command line: archives, tables of paths, encodings, splits."""

from __future__ import annotations

import json

import pytest
from bad_input import GOOD, Case, assert_refused

from hf_finetune.cli.main import main as hf_finetune

WHO = ("text", "label", "who")


@pytest.fixture
def case(tmp_path, tmp_path_factory, monkeypatch, checkpoints, image_folder):
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return Case(tmp_path, checkpoints, image_folder)


# name → (arguments, words that the error must have, words that the fix must have)
CASES = {
    "missing texts": (
        lambda c: c.text(train=c.raw("m.jsonl", b'{"text": "a", "label": "x"}\n{"text": null, "label": "y"}\n')),
        "1 of 2 rows have no text (rows 2)",
        "--on_bad_row skip",
    ),
    "quotes that never close": (
        lambda c: c.text(train=c.raw("q.csv", b'text,label\na,x\n"b,y\nc,x\n')),
        "q.csv: the row that begins in line 3 cannot be read: a quote opens in it and never closes",
        "quotes",
    ),
    "too many cells": (
        lambda c: c.text(train=c.raw("c.csv", b"text,label\na,x\nwell, no,y\n")),
        "c.csv: line 3 has 3 cells, but the header has 2",
        "--delimiter",
    ),
    "columns of the same name": (
        lambda c: c.text(train=c.raw("d.csv", b"text,text\na,x\n")),
        "d.csv: the header has the name 'text' more than once",
        "name of its own",
    ),
    "a workbook called csv": (
        lambda c: c.text(train=c.raw("w.csv", b"PK\x03\x04\x14\x00")),
        "w.csv: the file is a zip archive or an Excel workbook",
        "CSV",
    ),
    "broken UTF-8": (
        lambda c: c.text(train=c.raw("u.csv", "text,label\né,x\n".encode() + b"\xc3,y\n")),
        "u.csv: byte 17, in line 3, is not text in UTF-8",
        "UTF-8",
    ),
    "wrong encoding": (
        lambda c: c.text("--encoding", "utf-8", train=c.raw("l.csv", b"text,label\n\xe9,x\n")),
        "l.csv: byte 12, in line 2, is not text in utf-8",
        "--encoding",
    ),
    "unknown encoding": (lambda c: c.text("--encoding", "utf9"), "there is no encoding 'utf9'", "utf-8"),
    "impossible delimiter": (lambda c: c.text("--delimiter", "ab"), "'ab' cannot separate cells", "tab"),
    "broken JSON": (
        lambda c: c.text(train=c.raw("j.jsonl", b'{"text": "a", "label": "x"}\n{"text": b}\n')),
        "j.jsonl: line 2 is not JSON: Expecting value (character 10)",
        "fix that line",
    ),
    "no texts by class": (
        lambda c: c.text(train=None, data=["--train_dir", str(c.folder)]),
        "no .txt files in class folders were found",
        "FOLDER/CLASS/text.txt",
    ),
    "nothing but bad rows": (
        lambda c: c.text("--on_bad_row", "skip", train=c.file("b.csv", [("a", "")] * 3)),
        "all 3 rows would be skipped: no label in column 'label'",
        "--label_column",
    ),
    "an image that the table names is missing": (
        lambda c: c.table([("no.png", "a")]),
        "images.csv, column 'path': 1 of 13 images are missing; the first, in row 13: there is no file",
        "--image_root",
    ),
    "a path that leads out": (
        lambda c: c.table([("../../etc/passwd", "a")]),
        "paths lead out of the folder",
        "--image_root",
    ),
    "a link that leads out": (lambda c: c.image(data=c.linked()), "the symbolic link leads out of the folder", "copy"),
    "an archive that leads out": (lambda c: c.image(data=c.archive("../evil.png")), "leads out of it", "unpack"),
    "no archive": (lambda c: c.image(data=c.archive(None)), "the archive cannot be unpacked", "pack it again"),
    "a missing shard": (
        lambda c: c.image(data=c.folder / "s-{0..2}.tar"),
        "s-0.tar: the archive does not exist",
        "path",
    ),
    "an archive of texts": (
        lambda c: ["train", "text-classification", "--model_name_or_path", c.bert, "--dataset_name", "texts.zip"],
        "the archive does not exist",
        "path",
    ),
    "a decompression bomb": (lambda c: c.image(data=c.bomb()), "decompression bomb", "--on_bad_image skip"),
    "predict: a decompression bomb": (lambda c: ["predict", c.vit, str(c.bomb())], "decompression bomb", "remove"),
    "predict: a link that leads out": (
        lambda c: ["predict", c.vit, str(c.linked())],
        "leads out of the folder",
        "copy",
    ),
    "predict: no images": (
        lambda c: ["predict", c.vit, str((c.folder / "void").mkdir() or c.folder / "void")],
        "the folder holds no images",
        "name",
    ),
    "unknown group column": (
        lambda c: c.text("--group_column", "patient"),
        "there is no column 'patient'; the columns are 'text', 'label'",
        "--group_column",
    ),
    "rows without a group": (
        lambda c: c.text(
            "--group_column=who", train=c.file("g.csv", [(*r, "" if i == 2 else "x") for i, r in enumerate(GOOD)], WHO)
        ),
        "1 of 40 rows have no group (rows 3)",
        "fill the groups in",
    ),
    "no time": (
        lambda c: c.text("--time_column=who", train=c.file("w.csv", [(*r, "2024-02-30") for r in GOOD], WHO)),
        "row 1 holds '2024-02-30'; expected an ISO date",
        "--time_column",
    ),
    "more folds than rows": (
        lambda c: c.text("--num_folds", "50", "--fold", "1"),
        "40 rows do not make 50 folds",
        "give 40 or less",
    ),
    "no file of splits": (lambda c: c.text("--splits_file", c.good), "the file cannot be read", "splits.parquet"),
    "two remedies against imbalance": (
        lambda c: c.text("--balanced_sampling", "--class_weights", "balanced"),
        "both make up for the frequencies of the classes",
        "keep one of them",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name, case, capfd):
    arguments, error, fix = CASES[name]
    assert_refused(case, arguments(case), error, fix, capfd)


def test_bad_rows_are_dropped_and_listed_when_that_is_asked_for(case, capfd):
    train = case.file("holes.csv", [*GOOD, ("no label", ""), ("é", " ")])
    flags = ["--on_bad_row", "skip", "--num_train_epochs", "1"]
    assert hf_finetune(case.text(*flags, train=train)) == 0
    assert "2 rows of the train split are skipped (no label in column 'label'): 41, 42." in capfd.readouterr().out
    lines = (case.folder / "run" / "skipped.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"split": "train", "row": row, "id": str(row - 1), "reason": "no label in column 'label'"} for row in (41, 42)
    ]
    assert "2 rows of the train split are skipped" in (case.folder / "run" / "README.md").read_text()
    assert hf_finetune(case.text("--num_train_epochs", "1", "--overwrite_output_dir")) == 0
    assert not (case.folder / "run" / "skipped.jsonl").exists()


def test_texts_by_class_go_from_folder_to_model(case):
    for index, (text, label) in enumerate(GOOD):
        path = case.folder / "texts" / label / f"{index}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert hf_finetune(case.text("--num_train_epochs", "1", data=["--dataset_name", str(case.folder / "texts")])) == 0
    config = json.loads((case.folder / "run" / "model" / "config.json").read_text())
    assert config["label2id"] == {"negative": 0, "positive": 1}
