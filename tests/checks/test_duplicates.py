"""Repeated rows, leakage and conflicting labels, with the rows of both sides named."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from hf_finetune.checks import duplicates
from hf_finetune.checks.duplicates import check_duplicates
from hf_finetune.config.options import DataConfig
from hf_finetune.data.splits.splits import Splits
from hf_finetune.tasks.inputs import text
from hf_finetune.tasks.outputs import MultiLabel, Regression, SingleLabel

LONG = "this is a rather long sentence about nothing in particular number"


def texts(rows, prefix="") -> Dataset:
    ids = [f"{prefix}{i}" for i in range(len(rows))]
    return Dataset.from_dict({"id": ids, "text": [t for t, _ in rows], "label": [label for _, label in rows]})


def found_in(splits):
    return check_duplicates(splits, text.rows, text.inspect(splits, DataConfig()))


def by_code(section) -> dict:
    return {finding.code: finding for finding in section.findings}


@pytest.fixture
def splits():
    train = texts([("one", 0), ("two", 1), ("two", 1), ("three", 0), ("three", 1), (LONG + " six", 0)], "a")
    test = texts([("one", 0), ("five", 1), (LONG.upper() + " six!", 0)], "b")
    return Splits(train, None, test, SingleLabel(["no", "yes"]), "here")


def test_every_kind_is_found_and_both_sides_are_named(splits):
    found = by_code(found_in(splits))
    assert set(found) == {"duplicate-exact", "leak-exact", "leak-near", "labels-conflict"}
    assert found["duplicate-exact"].rows == ["train a1 (yes) = train a2 (yes)", "train a3 (no) = train a4 (yes)"]
    assert found["leak-exact"].rows == ["train a0 (no) = test b0 (no)"]
    assert found["leak-exact"].message == "1 rows of the test split (33%) are also rows of the train split"
    assert found["leak-near"].rows == ["train a5 (no) = test b2 (no)"]
    assert found["labels-conflict"].rows == ["train a3 (no) = train a4 (yes)"]
    assert {f.severity for f in found.values()} == {"warning"}


def test_counts_by_split_are_facts(splits):
    facts = found_in(splits).facts
    assert facts["train"] == {"repeated": 2, "near": 1, "also_in_another_split": 1, "near_another_split": 1}
    assert facts["test"] == {"repeated": 0, "near": 1, "also_in_another_split": 1, "near_another_split": 1}


def test_rows_that_are_all_the_same_are_an_error():
    section = found_in(Splits(texts([("x", 0), ("x", 1)]), None, None, SingleLabel(["a", "b"]), "here"))
    assert by_code(section)["input-constant"].severity == "error"


def test_few_repeated_rows_are_no_warning():
    rows = [(f"number {i}", i % 2) for i in range(200)]
    rows[7] = rows[9]
    found = by_code(found_in(Splits(texts(rows), None, None, SingleLabel(["a", "b"]), "here")))
    assert found["duplicate-exact"].severity == "info"


def test_pairs_are_the_same_only_where_both_texts_are():
    rows = {
        "id": ["0", "1", "2"],
        "text": ["a b c", "a b c", "a b c"],
        "text_pair": ["x", "y", "x"],
        "label": [0, 1, 1],
    }
    found = by_code(found_in(Splits(Dataset.from_dict(rows), None, None, SingleLabel(["n", "p"]), "here")))
    assert found["labels-conflict"].rows == ["train 0 (n) = train 2 (p)"]


def test_sets_of_classes_conflict_and_numbers_do_not():
    rows = {"id": ["0", "1", "2"], "text": ["a", "a", "b"], "label": [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]}
    several = Splits(Dataset.from_dict(rows), None, None, MultiLabel(["x", "y"]), "here")
    assert by_code(found_in(several))["labels-conflict"].rows == ["train 0 (x) = train 1 (x, y)"]
    numbers = Splits(Dataset.from_dict(rows), None, None, Regression(["x", "y"]), "here")
    assert set(by_code(found_in(numbers))) == {"duplicate-exact"}


def test_of_many_rows_those_held_out_are_compared_first(monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_NEAR", 40)
    train = texts([(f"training row number {i} of them", i % 2) for i in range(100)], "a")
    test = texts([(f"held out row number {i} of these", i % 2) for i in range(15)], "b")
    section = found_in(Splits(train, None, test, SingleLabel(["n", "p"]), "here"))
    assert section.sentences == ["Near duplicates are looked for among 40 of 115 different rows."]


def test_the_same_command_draws_the_same_rows(monkeypatch):
    import pandas as pd

    monkeypatch.setattr(duplicates, "MOST_NEAR", 40)
    rows = pd.DataFrame({"split": ["test"] * 30 + ["train"] * 100, "row": np.r_[np.arange(30), np.arange(100)]})
    first, second = duplicates._drawn(rows), duplicates._drawn(rows)
    assert first.equals(second)
    assert first["split"].value_counts().to_dict() == {"test": 20, "train": 20}
