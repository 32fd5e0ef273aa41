"""Rows without text or label: refused with their numbers, or skipped, counted and listed."""

from __future__ import annotations

import json

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_finetune.config.options import DataConfig
from hf_finetune.data.load import load_splits
from hf_finetune.data.rows.bad_rows import list_skipped, write_skipped
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def load(dataset, kind="text", **options):
    return load_splits(DataConfig(**{"validation_split": 0.0} | options), get_task(f"{kind}-classification"), dataset)


def refused(dataset, **options) -> UserError:
    with pytest.raises(UserError) as caught:
        load(dataset, **options)
    return caught.value


def table(texts, labels, **more) -> Dataset:
    return Dataset.from_dict({"text": texts, "label": labels} | more)


HOLES = table(["a", None, "", "d", None, "f"], ["x", "y", "x", " ", None, "y"])


def test_rows_without_text_are_refused_with_their_numbers():
    error = refused(HOLES)
    assert error.what == "2 of 6 rows have no text (rows 2, 5)"
    assert error.where == "train split, column 'text'"
    assert "--on_bad_row skip" in error.fix


def test_rows_without_label_are_refused_with_their_numbers():
    error = refused(table(["a"] * 9, ["x", "y", *[None] * 7]))
    assert error.what == "7 of 9 rows have no label (rows 3, 4, 5, 6, 7, …)"
    assert error.where == "train split, column 'label'"


def test_skipped_rows_are_dropped_counted_said_and_listed(capsys):
    splits = load(HOLES, on_bad_row="skip")
    assert splits.train["text"][:] == ["a", "", "f"]
    assert splits.train["id"][:] == ["0", "2", "5"]  # as they are without the others
    assert splits.skipped == [
        {"split": "train", "row": 2, "id": "1", "reason": "no text in column 'text'"},
        {"split": "train", "row": 4, "id": "3", "reason": "no label in column 'label'"},
        {"split": "train", "row": 5, "id": "4", "reason": "no text in column 'text'"},
    ]
    note = "3 rows of the train split are skipped (no text in column 'text', no label in column 'label'): 2, 4, 5."
    assert splits.notes == [note]
    assert f"Warning: {note}" in capsys.readouterr().out


def test_without_bad_rows_nothing_is_noted():
    splits = load(table(["a", "b"], ["x", "y"]), on_bad_row="skip")
    assert (splits.skipped, splits.notes) == ([], [])


def test_every_split_is_looked_through_and_keeps_its_own_ids():
    good = table(["a", "b"], ["x", "y"], id=["p", "q"])
    data = DatasetDict(train=good, validation=table([None, "b"], ["x", "y"], id=["r", "s"]), test=good)
    assert refused(data).where == "validation split, column 'text'"
    splits = load(data, on_bad_row="skip")
    assert splits.validation["id"][:] == ["s"]
    assert splits.skipped == [{"split": "validation", "row": 1, "id": "r", "reason": "no text in column 'text'"}]


def test_either_text_of_a_pair():
    data = table(["a", "b", None, "e"], ["x", "y", "x", "x"], other=[None, "c", "d", "f"])
    assert refused(data, text_pair_column="other").where == "train split, column 'text'"
    assert refused(data.select([0, 1, 3]), text_pair_column="other").where == "train split, column 'other'"
    assert load(data, text_pair_column="other", on_bad_row="skip").train["text_pair"][:] == ["c", "f"]


def test_hidden_classes_are_no_labels():
    features = Features({"text": Value("string"), "label": ClassLabel(names=["n", "p"])})
    data = table(["a", "b", "c"], [0, -1, 1]).cast(features)
    assert refused(data).what == "1 of 3 rows have no label (rows 2)"
    assert load(data, on_bad_row="skip").train["label"][:] == [0, 1]


def test_nan_is_no_label_and_booleans_and_spaces_are():
    assert refused(table(["a"] * 3, [0.0, float("nan"), 1.0])).what == "1 of 3 rows have no label (rows 2)"
    assert load(table(["a"] * 3, [0.0, float("nan"), 1.0]), on_bad_row="skip").labels == ["0", "1"]
    assert load(table(["a"] * 3, [True, False, None]), on_bad_row="skip").labels == ["False", "True"]
    assert load(table(["a"] * 4, [" x", "x ", "y", "\t"]), on_bad_row="skip").labels == ["x", "y"]


def test_of_several_classes_none_is_an_answer_and_null_is_not():
    lists = Features({"text": Value("string"), "label": List(Value("string"))})
    data = Dataset.from_dict({"text": ["a"] * 4, "label": [["x"], [], None, ["x", "y"]]}, features=lists)
    assert refused(data).what == "1 of 4 rows have no label (rows 3)"
    assert load(data, on_bad_row="skip").train["label"][:] == [[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
    joined = table(["a"] * 4, ["x", "", None, "x,y"])
    assert load(joined, on_bad_row="skip", label_delimiter=",").train["label"][:] == [
        [1.0, 0.0],
        [0.0, 0.0],
        [1.0, 1.0],
    ]


def test_a_number_that_is_none():
    data = table(["a"] * 5, ["0.5", "1", "n/a", "", "inf"])
    kind = {"problem_type": "regression"}
    assert refused(data, **kind).what == "1 of 5 rows have no label (rows 4)"
    assert refused(data.select([0, 1, 2]), **kind).what.startswith("row 3 holds 'n/a', which is not a finite number")
    splits = load(data, on_bad_row="skip", **kind)
    assert splits.train["label"][:] == [[0.5], [1.0]]
    assert [(row["row"], row["id"], row["reason"]) for row in splits.skipped] == [
        (3, "2", "no number in column 'label'"),
        (4, "3", "no label in column 'label'"),
        (5, "4", "no number in column 'label'"),
    ]


def test_a_missing_number_does_not_hide_a_regression():
    splits = load(table(["a"] * 3, ["0.5", "", "1.5"]), on_bad_row="skip")
    assert (splits.output.NAME, splits.train["label"][:]) == ("regression", [[0.5], [1.5]])


def test_the_last_row_cannot_be_skipped():
    good = table(["a", "b"], ["x", "y"])
    error = refused(DatasetDict(train=good, test=table(["a", None], ["", "x"])), on_bad_row="skip")
    assert error.what == "all 2 rows would be skipped: no text in column 'text', no label in column 'label'"
    assert error.where == "test split"
    assert refused(table(["a", "b"], [None, " "]), on_bad_row="skip").where == "train split"


def test_rows_of_a_csv_that_end_early(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,x\nb\nc,y\n")
    splits = load(None, train_file=str(tmp_path / "a.csv"), on_bad_row="skip")
    assert splits.train["text"][:] == ["a", "c"]
    assert splits.skipped[0]["row"] == 2


def test_images_without_label():
    from datasets import Image

    features = Features({"image": Image(), "label": Value("string")})
    rows = Dataset.from_dict(
        {"image": [{"path": None, "bytes": b"x"}] * 3, "label": ["a", None, "b"]}, features=features
    )
    with pytest.raises(UserError, match="1 of 3 rows have no label"):
        load(rows, "image")
    assert len(load(rows, "image", on_bad_row="skip").train) == 2


# The list of the run


def test_the_file_has_one_object_a_row(tmp_path):
    rows = Dataset.from_dict({"id": ["a", "b", "ä/3.png", "d"]})
    skipped = list_skipped(rows, "test", {2: "cannot be read", 0: "no image"})
    assert skipped == [
        {"split": "test", "row": 3, "id": "ä/3.png", "reason": "cannot be read"},
        {"split": "test", "row": 1, "id": "a", "reason": "no image"},
    ]
    write_skipped(skipped, tmp_path)
    lines = (tmp_path / "skipped.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == skipped
    assert "ä/3.png" in lines[0]


def test_without_skipped_rows_there_is_no_file(tmp_path):
    write_skipped([], tmp_path)
    assert list(tmp_path.iterdir()) == []
