"""Columns with their reasons, classes by split, and labels that are no classes."""

from __future__ import annotations

import pytest
from datasets import Dataset

from hf_finetune.checks.run import check_columns, check_counts
from hf_finetune.config.options import DataConfig
from hf_finetune.data.splits.splits import Splits
from hf_finetune.tasks.inputs import text
from hf_finetune.tasks.outputs import MultiLabel, Regression, SingleLabel


def rows(labels) -> Dataset:
    count = len(labels)
    return Dataset.from_dict(
        {"id": [str(i) for i in range(count)], "text": [f"t{i}" for i in range(count)], "label": list(labels)}
    )


def splits_of(counts: list[int], names: list[str] | None = None, **options) -> Splits:
    labels = [index for index, count in enumerate(counts) for _ in range(count)]
    names = names or [f"class{i}" for i in range(len(counts))]
    return Splits(rows(labels), options.pop("validation", None), None, SingleLabel(names), "here", **options)


def found_in(splits: Splits) -> dict:
    return {finding.code: finding for finding in check_counts(splits).findings}


@pytest.mark.parametrize(
    ("config", "inputs", "labels", "why"),
    [
        (DataConfig(), ["Sentence"], ["label"], ["a usual name of texts", "a usual name of labels"]),
        (DataConfig(), ["notes"], ["kind"], ["the only column of strings beside the label", "the only column of class labels"]),
        (
            DataConfig(text_column="a", text_pair_column="b", label_column="c"),
            ["a", "b"],
            ["c"],
            ["named by --text_column", "named by --text_pair_column", "named by --label_column"],
        ),
    ],
)  # fmt: skip
def test_columns_are_given_with_the_reason(config, inputs, labels, why):
    splits = splits_of([20, 20], inputs=inputs, label_columns=labels)
    facts = check_columns(config, text, splits).facts
    assert [each["column"] for each in facts["columns"]] == [*inputs, *labels]
    assert [each["why"] for each in facts["columns"]] == why


def test_good_classes_give_no_finding_and_their_counts():
    section = check_counts(splits_of([30, 40], ["no", "yes"], validation=rows([0, 1, 1])))
    assert section.findings == []
    assert section.facts["classes"] == {"no": {"train": 30, "validation": 1}, "yes": {"train": 40, "validation": 2}}
    bars = next(table for table in section.tables if table.bars)
    assert bars.rows == [("yes", 40), ("no", 30)]


def test_missing_rare_and_uneven_classes_are_found():
    splits = splits_of([300, 3, 0, 30], ["a", "b", "c", "d"], validation=rows([0, 1, 3]))
    section = check_counts(splits)
    assert [(f.code, f.where, f.rows) for f in section.findings] == [
        ("class-missing", "train split", ["c"]),
        ("class-missing", "validation split", ["c"]),
        ("class-few-rows", "train split", ["b (3)"]),
        ("imbalanced", "train split", []),
    ]
    assert "100 times" in section.findings[-1].message


def test_one_class_left_is_an_error():
    assert found_in(splits_of([30, 0]))["too-few-classes"].severity == "error"


@pytest.mark.parametrize(
    ("counts", "names", "code"),
    [
        ([1] * 60, [f"user-{i}" for i in range(60)], "labels-like-ids"),
        ([20] * 30, [str(i) for i in range(30)], "labels-like-numbers"),
        ([20] * 3, ["a very long label that says it all", "another of these long labels here now", "x"], "labels-like-text"),
        ([20] * 3, ["Very good", "very_good ", "bad"], "labels-spelled-alike"),
    ],
)  # fmt: skip
def test_labels_that_are_no_classes_are_suspected(counts, names, code):
    assert found_in(splits_of(counts, names))[code].severity == "warning"


@pytest.mark.parametrize("names", [["1", "2", "3", "4", "5"], ["+", "-"], ["a 1", "a 2"], ["C", "C++", "C#"]])
def test_ordinary_labels_are_not_suspected(names):
    assert found_in(splits_of([30] * len(names), names)) == {}


def test_rows_of_several_classes_are_counted():
    labels = [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]] * 10
    section = check_counts(Splits(rows(labels), None, None, MultiLabel(["a", "b", "c"]), "here"))
    assert [f.code for f in section.findings] == ["class-in-every-row"]
    bars = {table.title: table.rows for table in section.tables if table.bars}
    assert bars["Classes of a training row"] == [("0", 0), ("1", 20), ("2", 20)]


def test_a_target_that_never_changes_is_an_error():
    labels = [[float(i), 7.0] for i in range(10)]
    section = check_counts(Splits(rows(labels), None, None, Regression(["x", "y"]), "here"))
    assert [(f.code, f.severity, f.where) for f in section.findings] == [("target-constant", "error", "column 'y'")]
    assert section.facts["targets"][0]["highest"] == "9"
