"""Bad rows, labels and images: refused before training, with the file, the row or column, and how to fix it."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from bad_input import GOOD, Case, assert_refused

MANY = [(f"film {i}", ("a", "b")[i % 2]) for i in range(40)]


@pytest.fixture
def case(tmp_path, checkpoints, image_folder):
    return Case(tmp_path, checkpoints, image_folder)


def labels(case, values, *flags, name="l.jsonl"):
    """A file of texts with these labels."""
    return case.text(*flags, train=case.lines(name, [{"text": f"film {i}", "label": v} for i, v in enumerate(values)]))


MULTI = ("--problem_type", "multi_label_classification")
NUMBERS = ("--problem_type", "regression")

# name → (arguments, words that the error must have, words that the fix must have)
FILES = {
    "missing file": (lambda c: c.text(train=c.folder / "no.csv"), "no.csv: the file does not exist", "path"),
    "missing validation file": (
        lambda c: c.text("--validation_file", "v.csv"),
        "v.csv: the file does not exist",
        "path",
    ),
    "missing test file": (lambda c: c.text("--test_file", "t.jsonl"), "t.jsonl: the file does not exist", "path"),
    "a folder as a file": (lambda c: c.text(train=c.dir("f.csv")), "f.csv: ", "path"),
    "an empty path": (
        lambda c: c.bare("--model_name_or_path", c.bert, "--train_file="),
        "no data was given",
        "--train_file",
    ),
    "empty file": (lambda c: c.text(train=c.raw("e.csv", "")), "the file is empty", "row"),
    "empty JSONL": (lambda c: c.text(train=c.raw("e.jsonl", "")), "the file is empty", "row"),
    "only newlines": (
        lambda c: c.text(train=c.raw("n.csv", "\n\n\n")),
        "n.csv: the header cannot be read",
        "give a header",
    ),
    "header only": (lambda c: c.text(train=c.file("h.csv", [])), "has no rows", "rows"),
    "unknown ending": (lambda c: c.text(train=c.raw("x.xls", "x")), ".xls", ".csv"),
    "no ending": (lambda c: c.text(train=c.raw("data", "x")), "'(nothing)' are not read", ".csv"),
    "text column not found": (
        lambda c: c.text("--text_column", "txt"),
        "'txt'; the columns are 'text', 'label'",
        "--text_column text",
    ),
    "label column not found": (
        lambda c: c.text("--label_column", "y"),
        "no column 'y'; the columns are",
        "--label_column",
    ),
    "text pair column not found": (
        lambda c: c.text("--text_pair_column", "texts"),
        "no column 'texts'; the columns are",
        "did you mean --text_pair_column text?",
    ),
    "one of several label columns not found": (
        lambda c: c.text("--label_columns", "label", "other"),
        "no column 'other'; the columns are",
        "--label_columns",
    ),
    "no column is the label": (
        lambda c: c.text(train=c.file("n.csv", GOOD, ("a", "b"))),
        "no column is clearly the label; the columns are 'a', 'b'",
        "--label_column",
    ),
    "no column is the text": (
        lambda c: c.text(train=c.file("n.csv", [(1, 2, "x"), (3, 4, "y")] * 9, ("a", "b", "label"))),
        "no column is clearly the text; the columns are 'a', 'b', 'label'",
        "--text_column",
    ),
    "other text column in the validation file": (
        lambda c: c.text("--validation_file", c.file("v.csv", GOOD, ("sentence", "label"))),
        "no column 'text', which the training rows have; the columns are 'sentence', 'label'",
        "same columns",
    ),
    "binary content": (lambda c: c.text(train=c.raw("b.csv", bytes(range(256)) * 9)), "b.csv: ", ""),
    "an image as CSV": (
        lambda c: c.text(train=c.raw("p.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + zlib.compress(b"x" * 99))),
        "p.csv: ",
        "",
    ),
    "Parquet named CSV": (
        lambda c: c.text(
            train=c.raw("p.csv", Path(c.frame("p.parquet", {"text": ["a"], "label": ["b"]})).read_bytes())
        ),
        "p.csv: ",
        "",
    ),
    "more cells than names": (
        lambda c: c.text(train=c.raw("r.csv", "text,label\na,b,c\n")),
        "line 2 has 3 cells, but the header has 2",
        "quotes",
    ),
    "more cells than names further down": (
        lambda c: c.text(train=c.raw("r.csv", "text,label\n" + "a,b\n" * 30 + "a,b,c,d\n")),
        "r.csv: line 32 has 4 cells, but the header has 2",
        "--delimiter",
    ),
    "a quote that is never closed": (
        lambda c: c.text(train=c.raw("q.csv", 'text,label\na,b\n"never closed,b\na,b\n')),
        "q.csv: ",
        "",
    ),
    "the same name twice": (lambda c: c.text(train=c.file("d.csv", MANY, ("label", "label"))), "", ""),
    "one huge line": (lambda c: c.text(train=c.raw("huge.csv", "x" * 3_000_000)), "huge.csv", ""),
    "names without cells": (
        lambda c: c.text(train=c.raw("s.csv", "text,label\n,\n,\n")),
        "no label (rows 1, 2)",
        "fill",
    ),
    "JSON cut short": (
        lambda c: c.text(train=c.cut(c.raw("j.json", json.dumps([{"text": "a", "label": "b"}] * 9)))),
        "j.json: line 1 is not JSON",
        "fix that line",
    ),
    "JSON of one number": (lambda c: c.text(train=c.raw("j.json", "3")), "j.json: ", ""),
    "JSON of a text": (lambda c: c.text(train=c.raw("j.json", '"text"')), "j.json: ", ""),
    "JSON of an empty list": (lambda c: c.text(train=c.raw("j.json", "[]")), "j.json: ", ""),
    "JSON of an empty object": (lambda c: c.text(train=c.raw("j.json", "{}")), "j.json: ", ""),
    "JSON of null": (lambda c: c.text(train=c.raw("j.json", "null")), "j.json: ", ""),
    "JSON of lists": (lambda c: c.text(train=c.raw("j.json", "[[1, 2], [3, 4]]")), "", ""),
    "JSON lines with a broken one": (
        lambda c: c.text(train=c.raw("j.jsonl", '{"text": "a", "label": "b"}\n' * 5 + '{"text": "a", "lab\n')),
        "j.jsonl: line 6 is not JSON",
        "fix that line",
    ),
    "JSON lines of texts": (lambda c: c.text(train=c.raw("j.jsonl", '"a"\n"b"\n')), "j.jsonl: ", ""),
    "JSON lines of mixed types": (
        lambda c: c.text(train=c.lines("j.jsonl", [{"text": "a", "label": 1}, {"text": {"x": 1}, "label": "b"}])),
        "",
        "",
    ),
    "JSON lines without text": (
        lambda c: c.text(train=c.lines("j.jsonl", [{"label": "a"}, {"label": "b"}] * 9)),
        "no column is clearly the text; the columns are 'label'",
        "--text_column",
    ),
    "binary JSON": (lambda c: c.text(train=c.raw("j.jsonl", bytes(range(256)))), "j.jsonl: ", ""),
    "texts that are objects": (
        lambda c: c.text(
            "--text_column", "text", train=c.lines("j.jsonl", [{"text": {"a": 1}, "label": x} for x in "ab" * 9])
        ),
        "not text",
        "--text_column",
    ),
    "texts that are numbers": (
        lambda c: c.text(
            "--text_column", "text", train=c.lines("j.jsonl", [{"text": 1.5, "label": x} for x in "ab" * 9])
        ),
        "holds float64, not text",
        "--text_column",
    ),
    "texts that are missing": (
        lambda c: c.text(
            train=c.lines("j.jsonl", [{"text": None if i == 3 else "x", "label": "ab"[i % 2]} for i in range(9)])
        ),
        "1 of 9 rows have no text (rows 4)",
        "fill",
    ),
    "Parquet cut short": (
        lambda c: c.text(train=c.cut(c.frame("p.parquet", {"text": ["a"] * 99, "label": ["b"] * 99}))),
        "p.parquet: the rows cannot be read",
        "fix the file",
    ),
    "Parquet that is text": (lambda c: c.text(train=c.raw("p.parquet", "text,label\na,b\n")), "p.parquet: ", ""),
    "Parquet without rows": (
        lambda c: c.text(train=c.frame("p.parquet", {"text": [], "label": []})),
        "no rows",
        "rows",
    ),
    "Parquet without columns": (lambda c: c.text(train=c.frame("p.parquet", {})), "p.parquet: ", ""),
    "Arrow that is text": (lambda c: c.text(train=c.raw("a.arrow", "ARROW1")), "a.arrow: ", ""),
    "a folder without files": (
        lambda c: c.bare("--model_name_or_path", c.bert, "--dataset_name", c.dir("void")),
        "no train.csv",
        "--train_file",
    ),
    "a folder with test rows only": (
        lambda c: c.bare(
            "--model_name_or_path", c.bert, "--dataset_name", c.above(1, "d/test.csv", "text,label\na,b\n")
        ),
        "there is no training split; found test",
        "--train_file",
    ),
    "a saved data set without its rows": (
        lambda c: c.bare("--model_name_or_path", c.bert, "--dataset_name", c.above(1, "d/state.json", "{}")),
        "",
        "",
    ),
    "a saved data set with a broken dictionary": (
        lambda c: c.bare("--model_name_or_path", c.bert, "--dataset_name", c.above(1, "d/dataset_dict.json", "{")),
        "",
        "",
    ),
    "no such data set": (
        lambda c: c.bare("--model_name_or_path", c.bert, "--dataset_name", "no-such/data"),
        "no such local folder",
        "check the name",
    ),
    "a file as a data set": (
        lambda c: c.bare("--model_name_or_path", c.bert, "--dataset_name", c.good),
        "no such local folder",
        "check the name",
    ),
    "a folder of images for texts": (
        lambda c: c.bare("--model_name_or_path", c.bert, "--train_dir", c.images),
        "no .txt files in class folders were found",
        "text.txt",
    ),
    "too few rows to split": (lambda c: c.text(train=c.file("f.csv", GOOD[:2])), "too few", "--validation_split"),
}

LABELS = {
    "one class": (lambda c: c.text(train=c.file("o.csv", [("x", "a")] * 9)), "the label 'a'", "another class"),
    "missing labels": (lambda c: c.text(train=c.file("m.csv", [*GOOD, ("x", "")])), "have no label (rows 41)", "fill"),
    "missing labels in the validation rows": (
        lambda c: c.text("--validation_file", c.file("v.csv", [*GOOD[:3], ("x", " ")])),
        "validation split, column 'label': 1 of 4 rows have no label (rows 4)",
        "fill",
    ),
    "class only in test": (
        lambda c: c.text("--test_file", c.file("t.csv", [*GOOD, ("x", "mixed")])),
        "'mixed' does not occur in the training rows (first in row 41)",
        "spelling",
    ),
    "classes only in validation": (
        lambda c: c.text("--validation_file", c.file("v.csv", [("x", "c10"), ("y", "c2")])),
        "'c2', 'c10' do not occur in the training rows (first in row 1)",
        "spelling",
    ),
    "labels that are ids": (
        lambda c: c.text(train=c.file("i.csv", [("x", f"id{i}") for i in range(1500)])),
        "1500 different labels in 1500 rows look like ids",
        "--label_column",
    ),
    "fractions as classes": (
        lambda c: labels(c, [0.5, 1.0, 2.0] * 9, "--problem_type", "single_label_classification"),
        "the value 0.5 is a number, not a class",
        "regression",
    ),
    "lists as one class": (
        lambda c: labels(c, [["a"], ["b"]] * 9, "--problem_type", "single_label_classification"),
        "no single class",
        "multi_label",
    ),
    "objects as classes": (lambda c: labels(c, [{"x": 1}, {"x": 2}] * 9), "no single class", ""),
    "several label columns for one class": (
        lambda c: c.text(
            "--label_columns",
            "a",
            "b",
            "--problem_type",
            "single_label_classification",
            train=c.file("s.csv", [("x", 1, 2), ("y", 2, 1)] * 9, ("text", "a", "b")),
        ),
        "one class a row stands in one column",
        "--label_column",
    ),
    "0/1 columns with lists": (
        lambda c: c.text(
            "--label_columns",
            "a",
            "b",
            *MULTI,
            train=c.lines("f.jsonl", [{"text": "x", "a": [1], "b": 0}, {"text": "y", "a": [0], "b": 1}] * 9),
        ),
        "column 'a': row 1 holds [1]; a column of a class holds 0 or 1",
        "write 1",
    ),
    "objects among label columns": (
        lambda c: c.text(
            "--label_columns", "a", "b", train=c.lines("f.jsonl", [{"text": "x", "a": {"x": 1}, "b": 0}] * 9)
        ),
        "row 1 holds {'x': 1}, which is not a finite number",
        "fix",
    ),
    "a missing list": (
        lambda c: labels(c, [["a"], ["b"], None]),
        "column 'label': 1 of 3 rows have no label (rows 3)",
        "--on_bad_row skip",
    ),
    "lists of one class": (lambda c: labels(c, [["a"], ["a"], []] * 3), "1 different labels", "--label_delimiter"),
    "lists of nothing": (lambda c: labels(c, [[], []] * 3), "0 different labels", "--label_delimiter"),
    "lists in lists": (lambda c: labels(c, [[["a"]], [["b"]]] * 3), "", ""),
    "lists of objects": (lambda c: labels(c, [[{"x": "a"}], [{"x": "b"}]] * 3), "", ""),
    "a list that is not closed": (
        lambda c: c.text(*MULTI, train=c.file("l.csv", [("x", "['a']"), ("y", "['b' 'c', ]]")] * 3)),
        "is not a list of labels",
        "--label_delimiter",
    ),
    "a list with a class only in test": (
        lambda c: labels(
            c, [["a"], ["b"]] * 9, "--test_file", c.lines("t.jsonl", [{"text": "x", "label": ["a", "new"]}])
        ),
        "'new' does not occur in the training rows (first in row 1)",
        "spelling",
    ),
    "a delimiter that separates nothing": (
        lambda c: c.text("--label_delimiter", ";", train=c.file("d.csv", [("x", "a")] * 9)),
        "1 different labels",
        "--label_delimiter",
    ),
    "a delimiter for one class": (
        lambda c: c.text("--label_delimiter", ";", "--problem_type", "single_label_classification"),
        "a delimiter separates several classes",
        "multi_label",
    ),
    "0/1 columns with a 2": (
        lambda c: c.text(
            "--label_columns",
            "a",
            "b",
            *MULTI,
            train=c.file("f.csv", [("x", 0, 1), ("y", 1, 0), ("z", 2, 1)], ("text", "a", "b")),
        ),
        "column 'a': row 3 holds '2'; a column of a class holds 0 or 1",
        "write 1",
    ),
    "0/1 columns with a gap in test": (
        lambda c: c.text(
            "--label_columns",
            "a",
            "b",
            "--test_file",
            c.file("t.csv", [("x", 1, 1), ("x", "", 1)], ("text", "a", "b")),
            train=c.file("f.csv", [("x", 0, 1), ("y", 1, 0)] * 9, ("text", "a", "b")),
        ),
        "column 'a': 1 of 2 rows have no label (rows 2)",
        "fill",
    ),
    "one class asked for as numbers": (
        lambda c: c.text(*NUMBERS),
        "row 1 holds 'positive', which is not a finite number",
        "--label_column",
    ),
    "numbers with a word": (
        lambda c: labels(c, ["1.5", "2.5", "three"] * 3, *NUMBERS),
        "row 3 holds 'three', which is not a finite number",
        "fix",
    ),
    "numbers with infinity": (lambda c: labels(c, ["1.5", "inf", "2"] * 3, *NUMBERS), "row 2 holds 'inf'", "fix"),
    "numbers with NaN": (
        lambda c: labels(c, [1.5, float("nan"), 2.0] * 3, *NUMBERS),
        "3 of 9 rows have no label (rows 2, 5, 8)",
        "skip",
    ),
    "numbers with a gap": (
        lambda c: labels(c, [1.5, None, 2.0] * 3, *NUMBERS),
        "3 of 9 rows have no label (rows 2, 5, 8)",
        "skip",
    ),
    "numbers beyond floats": (lambda c: labels(c, ["1.5", "1e999"] * 5, *NUMBERS), "row 2 holds '1e999'", "fix"),
    "huge integers": (lambda c: labels(c, [1, 10**400] * 5, *NUMBERS), "", ""),
    "the same number everywhere": (
        lambda c: labels(c, [1.5] * 9, *NUMBERS),
        "all training rows hold 1.5",
        "another column",
    ),
    "a second target that is constant": (
        lambda c: c.text(
            "--label_columns",
            "a",
            "b",
            train=c.file("f.csv", [(f"x{i}", i / 2, 7) for i in range(20)], ("text", "a", "b")),
        ),
        "column 'b': all training rows hold 7",
        "another column",
    ),
    "true and false as numbers": (lambda c: labels(c, [True, False] * 5, *NUMBERS), "row 1 holds True", "fix"),
    "weights for numbers": (
        lambda c: labels(c, [0.5, 1.5] * 9, "--class_weights", "balanced"),
        "the labels are numbers, which have no classes",
        "leave the flag out",
    ),
    "smoothing for several classes": (
        lambda c: labels(c, [["a"], ["b"]] * 9, "--label_smoothing_factor", "0.1"),
        "labels are smoothed where a row has one class",
        "leave the flag out",
    ),
    "mixup of several classes": (lambda c: c.text("--mixup", "0.2"), "texts cannot be mixed", "leave the flags out"),
}

IMAGES = {
    "missing folder": (lambda c: c.image(data=c.folder / "no"), "no such local folder", "check the name"),
    "missing training folder": (
        lambda c: c.bare("--model_name_or_path", c.vit, "--train_dir", "no", task="image-classification"),
        "no: the folder does not exist",
        "path",
    ),
    "a file as a folder": (
        lambda c: c.bare("--model_name_or_path", c.vit, "--train_dir", c.good, task="image-classification"),
        "the folder does not exist",
        "path",
    ),
    "no images": (lambda c: c.image(data=c.dir("void")), "no images in class folders", "CLASS"),
    "images without class folders": (
        lambda c: c.image(data=c.above(1, "flat/1.png", b"x")),
        "no images in class folders",
        "CLASS",
    ),
    "class folders without images": (
        lambda c: c.image(data=c.above(2, "notes/cat/1.txt", "x")),
        "no images in class folders",
        "CLASS",
    ),
    "hidden images only": (
        lambda c: c.image(data=c.above(2, "h/cat/.1.png", "x")),
        "no images in class folders",
        "CLASS",
    ),
    "one class of images": (lambda c: c.image(data=c.album(cat=None)), "the label 'dog'", "another class"),
    "unreadable image": (
        lambda c: c.image(data=c.broken_image()),
        "images cannot be read; the first: ",
        "--on_bad_image skip",
    ),
    "an empty image": (
        lambda c: c.image(data=c.album(**{"cat/0.png": b""})),
        "1 of 5 images cannot be read",
        "--on_bad_image",
    ),
    "a text as an image": (
        lambda c: c.image(data=c.album(**{"cat/0.jpg": b"text"})),
        "cat/0.jpg (cannot identify",
        "--on_bad_image",
    ),
    "an image of 4 billion pixels": (
        lambda c: c.image(
            data=c.album(
                **{
                    "cat/0.bmp": b"BM"
                    + bytes(8)
                    + (54).to_bytes(4, "little")
                    + (40).to_bytes(4, "little")
                    + (65000).to_bytes(4, "little") * 2
                    + (1).to_bytes(2, "little")
                    + (24).to_bytes(2, "little")
                    + bytes(24)
                }
            )
        ),
        "cat/0.bmp",
        "--on_bad_image",
    ),
    "no image can be read": (
        lambda c: c.image(
            "--on_bad_image",
            "skip",
            data=c.bad_album(),
        ),
        "no image can be read",
        "check the files",
    ),
    "a class that loses all its images": (
        lambda c: c.image(
            "--on_bad_image",
            "skip",
            data=c.album(**{"cat": None, "owl/0.png": b"x", "owl/1.png": b"y", "owl/2.png": b"z"}),
        ),
        "fewer than two classes",
        "fix",
    ),
    "images of an impossible size": (
        lambda c: c.image("--image_size", "40"),
        "images of 40 pixels",
        "leave the flag out",
    ),
    "a class only in the test images": (
        lambda c: c.bare(
            "--model_name_or_path",
            c.vit,
            "--train_dir",
            c.album(),
            "--test_dir",
            c.above(2, "t/owl/1.png", b"x"),
            task="image-classification",
        ),
        "'owl' does not occur in the training rows",
        "spelling",
    ),
    "texts for images": (
        lambda c: c.bare("--model_name_or_path", c.vit, "--train_file", c.good, task="image-classification"),
        "no column is clearly the image; the columns are 'text', 'label'",
        "--image_column",
    ),
    "a text column as images": (
        lambda c: c.bare(
            "--model_name_or_path", c.vit, "--train_file", c.good, "--image_column", "text", task="image-classification"
        ),
        "",
        "",
    ),
    "image column not found": (lambda c: c.image("--image_column", "photo"), "no column 'photo'", "--image_column"),
    "label column of images not found": (
        lambda c: c.image("--label_column", "labels"),
        "no column 'labels'",
        "--label_column label",
    ),
}

CASES = FILES | LABELS | IMAGES


@pytest.mark.parametrize("name", CASES)
def test_bad_data(name, case, capfd, monkeypatch):
    arguments, error, fix = CASES[name]
    argv = arguments(case)
    monkeypatch.chdir(case.folder)
    assert_refused(case, argv, error, fix, capfd)
