"""Mistakes in data and flags of token classification: status 2, an error line and a fix line, and nothing half-made."""

from __future__ import annotations

import json

import pytest

from hf_finetune.cli.main import main as hf_finetune

GOOD = [
    {"tokens": ["good", "film"], "ner_tags": ["B-x", "O"]},
    {"tokens": ["bad", "end"], "ner_tags": ["O", "B-x"]},
] * 6
SPANS = [
    {"text": "good film", "entities": [{"start": 0, "end": 4, "label": "x"}]},
    {"text": "a plot", "entities": []},
] * 6
STUDIO = [{"data": {"text": r["text"]}, "annotations": [{"result": [{"type": "labels", "value": e} for e in r["entities"]]}]}
          for r in SPANS]  # fmt: skip


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def spoilt(rows, **values):
    return lines([*rows[:-1], rows[-1] | values])


# name → (file name, content, flags, words of the error, words of the fix)
CASES = {
    "fewer tags": ("t.jsonl", spoilt(GOOD, ner_tags=["O"]), [], "row 12: 2 words and 1 tags", "--on_bad_row skip"),
    "no tags in a row": ("t.jsonl", spoilt(GOOD, ner_tags=None), [], "1 of 12 rows have no label", "--on_bad_row skip"),
    "no words in a row": ("t.jsonl", spoilt(GOOD, tokens=None), [], "1 of 12 rows have no", "--on_bad_row skip"),
    "no entity anywhere": (
        "t.jsonl",
        lines([r | {"ner_tags": ["O", "O"]} for r in GOOD]),
        [],
        "the training rows have no entity",
        "--label_column",
    ),
    "no column of tags": (
        "t.jsonl",
        lines([{"tokens": r["tokens"], "other": r["ner_tags"]} for r in GOOD]),
        [],
        "no column is clearly that of tags",
        "--label_column",
    ),
    "another column of tags": (
        "t.jsonl",
        lines(GOOD),
        ["--label_column", "pos"],
        "there is no column 'pos'",
        "--label_column",
    ),
    "another column of words": (
        "t.jsonl",
        lines(GOOD),
        ["--text_column", "words"],
        "there is no column 'words'",
        "name one of these",
    ),
    "no column of words": (
        "t.jsonl",
        lines([{"n": 1, "ner_tags": r["ner_tags"]} for r in GOOD]),
        [],
        "no column is clearly the text",
        "--text_column",
    ),
    "words that are numbers": (
        "t.jsonl",
        lines([r | {"tokens": [1, 2]} for r in GOOD]),
        ["--text_column", "tokens"],
        "not text or words",
        "--text_column",
    ),
    "two columns of texts": (
        "t.jsonl",
        lines(SPANS),
        ["--text_columns", "text", "entities"],
        "entities are found in one text",
        "--text_column",
    ),
    "a pair of texts": (
        "t.jsonl",
        lines(SPANS),
        ["--text_pair_column", "text"],
        "entities are found in one text",
        "--text_column",
    ),
    "several label columns": (
        "t.jsonl",
        lines([r | {"pos": r["ner_tags"]} for r in GOOD]),
        ["--label_columns", "ner_tags", "pos"],
        "entities are in one column",
        "--label_column",
    ),
    "beyond the text": (
        "t.jsonl",
        spoilt(SPANS, entities=[{"start": 0, "end": 99, "label": "x"}]),
        [],
        "row 12: an entity from 0 to 99 in a text of 6 characters",
        "--on_bad_row skip",
    ),
    "end before start": (
        "t.jsonl",
        spoilt(SPANS, entities=[{"start": 3, "end": 1, "label": "x"}]),
        [],
        "row 12: an entity from 3 to 1",
        "--on_bad_row skip",
    ),
    "a negative start": (
        "t.jsonl",
        spoilt(SPANS, entities=[{"start": -2, "end": 1, "label": "x"}]),
        [],
        "row 12: an entity from -2 to 1",
        "--on_bad_row skip",
    ),
    "an entity without type": (
        "t.jsonl",
        spoilt(SPANS, entities=[{"start": 0, "end": 1, "label": None}]),
        [],
        "is not an entity with start, end and label",
        "--on_bad_row skip",
    ),
    "an entity without end": (
        "t.jsonl",
        lines([r | {"entities": [[0, "x"]]} for r in SPANS]),
        [],
        "is not an entity with start, end and label",
        "--on_bad_row skip",
    ),
    "a task of Label Studio without annotations": (
        "t.jsonl",
        spoilt(STUDIO, annotations=[]),
        [],
        "1 of 12 rows have no label",
        "--on_bad_row skip",
    ),
    "a label of Label Studio beyond the text": (
        "t.jsonl",
        spoilt(
            STUDIO,
            annotations=[{"result": [{"type": "labels", "value": {"start": 0, "end": 99, "labels": ["x"]}}]}],
        ),
        [],
        "row 12: an entity from 0 to 99 in a text of 6 characters",
        "--on_bad_row skip",
    ),
    "spans that are text": (
        "t.jsonl",
        lines([r | {"entities": "0 to 4"} for r in SPANS]),
        [],
        "is not an entity with start, end and label",
        "--on_bad_row skip",
    ),
    "spans of broken JSON": (
        "t.csv",
        'text,entities\ngood film,"[{""start"": 0"\n',
        [],
        "is not an entity with start, end and label",
        "--on_bad_row skip",
    ),
    "an unknown type": ("t.jsonl", None, [], "the label 'y' does not occur in the training rows", "fix the spelling"),
    "an empty file": ("t.jsonl", "", [], "the file is empty", "a row or more"),
    "a broken line": ("t.jsonl", lines(GOOD) + "{\n", [], "line 13 is not JSON", "fix that line"),
    "a CoNLL line without tag": (
        "t.conll",
        "good B-x\nfilm\n",
        [],
        "line 2 has 1 columns, not 2 as the first",
        "a word and its tag",
    ),
    "CoNLL without tags": ("t.conll", "good\nfilm\n", [], "no column is clearly that of tags", "--label_column"),
    "CoNLL of bytes": ("t.conll", b"PK\x03\x04" * 50, [], "a zip archive", ""),
    "head and tail": (
        "t.jsonl",
        lines(GOOD),
        ["--long_text", "head_tail"],
        "the middle of a text would have no tags",
        "leave the flag out",
    ),
    "too long": ("t.jsonl", lines(GOOD), ["--max_length", "999"], "reads at most 64 tokens", "give 64 or less"),
    "class weights": (
        "t.jsonl",
        lines(GOOD),
        ["--class_weights", "balanced"],
        "words are not weighed by their tag",
        "--balanced_sampling",
    ),
    "logit adjustment": (
        "t.jsonl",
        lines(GOOD),
        ["--logit_adjustment", "1"],
        "words are not weighed by their tag",
        "leave the flag out",
    ),
    "empty rows balanced": (
        "t.jsonl",
        lines(GOOD),
        ["--empty_rows_every", "2", "--balanced_sampling"],
        "exclude each other",
        "keep one of them",
    ),
    "no epoch for empty rows": ("t.jsonl", lines(GOOD), ["--empty_rows_every", "0"], "out of bounds", "at least 1"),
    "mixed texts": ("t.jsonl", lines(GOOD), ["--mixup", "0.2"], "texts cannot be mixed", "leave the flags out"),
    "an unknown metric": (
        "t.jsonl",
        lines(GOOD),
        ["--metric", "f1_micro"],
        "is none of the built-in metrics (f1, precision, recall",
        "built-in",
    ),
    "an image checkpoint": ("t.jsonl", lines(GOOD), ["--model_name_or_path", "resnet"], "", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name, checkpoints, tmp_path, capsys):
    file, content, flags, error, fix = CASES[name]
    data = tmp_path / file
    if content is None:
        data.write_text(lines(GOOD))
        (tmp_path / "v.jsonl").write_text(spoilt(GOOD, ner_tags=["B-y", "O"]))
        flags = ["--validation_file", str(tmp_path / "v.jsonl")]
    elif isinstance(content, bytes):
        data.write_bytes(content)
    else:
        data.write_text(content)
    flags = [checkpoints(word) if word == "resnet" else word for word in flags]
    model = ["--model_name_or_path", checkpoints("bert")]
    command = ["train", "token-classification", *model, "--train_file", str(data), "--num_train_epochs", "1"]
    assert hf_finetune([*command, "--output_dir", str(tmp_path / "run"), *flags]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-2].startswith("error: ")
    assert said[-1].startswith("fix: ")
    assert error in said[-2]
    assert fix in said[-1]
    assert "Traceback" not in "\n".join(said)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (SPANS, {"text": "a plot", "entities": [{"start": 0, "end": 99, "label": "x"}]}),
        (SPANS, {"text": None, "entities": [{"start": 0, "end": 4, "label": "x"}]}),
        (GOOD, {"tokens": None, "ner_tags": ["B-x"]}),
    ],
)
def test_unusable_rows_can_be_left_out(good, bad, checkpoints, tmp_path, capsys):
    (tmp_path / "t.jsonl").write_text(lines([*good, bad]))
    command = ["train", "token-classification", "--model_name_or_path", checkpoints("bert"), "--train_file"]
    flags = [str(tmp_path / "t.jsonl"), "--num_train_epochs", "1", "--on_bad_row", "skip"]
    assert hf_finetune([*command, *flags, "--output_dir", str(tmp_path / "run")]) == 0
    assert "1 rows of the train split are skipped" in " ".join(capsys.readouterr().out.split())
    [skipped] = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert skipped["row"] == 13
