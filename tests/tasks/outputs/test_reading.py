"""One class, several classes or numbers: read off the training rows, and encoded the same in every split."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_finetune.config.options import DataConfig
from hf_finetune.data.splits.folds import stratified_out
from hf_finetune.data.splits.splits import Splits
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs import CLASSES_OR_NUMBERS, MultiLabel, Regression, SingleLabel

SINGLE, MULTI, REGRESSION = SingleLabel.NAME, MultiLabel.NAME, Regression.NAME


def problem(*columns, config=None, **data):
    rows = Dataset.from_dict(data)
    return CLASSES_OR_NUMBERS.find(rows, list(columns or ("label",)), config or DataConfig()), rows


@pytest.mark.parametrize(
    ("values", "kind", "names"),
    [
        (["b", "a"], SINGLE, ["a", "b"]),
        (["1.0", "0.0"], SINGLE, ["0", "1"]),
        ([1.0, 0.0], SINGLE, ["0", "1"]),
        ([True, False], SINGLE, ["False", "True"]),
        (["10", "9", "2"], SINGLE, ["2", "9", "10"]),
        ([1, 5, 3], SINGLE, ["1", "3", "5"]),
        ([0.5, 1.0], REGRESSION, ["label"]),
        (["0.5", "-3e2"], REGRESSION, ["label"]),
        (["0.5", "n/a"], SINGLE, ["0.5", "n/a"]),
        ([["b"], ["a", "b"], []], MULTI, ["a", "b"]),
        (['["b", "a"]', "[]"], MULTI, ["a", "b"]),
        (["['it''s', 'a']", "['b']"], MULTI, ["a", "b", "its"]),
    ],
    ids=str,
)
def test_the_kind_is_read_off_the_values(values, kind, names):
    found, _ = problem(label=values)
    assert (found.NAME, found.names) == (kind, names)


def test_several_columns_of_0_and_1_are_classes():
    found, rows = problem("toxic", "rude", toxic=["1", "0", "0"], rude=["True", "false", "1"])
    assert (found.NAME, found.names) == (MULTI, ["toxic", "rude"])
    assert found.encode(rows, "train") == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]


def test_several_columns_of_numbers_are_targets():
    found, rows = problem("x", "y", x=["1", "2"], y=[0.5, 7])
    assert (found.NAME, found.names) == (REGRESSION, ["x", "y"])
    assert found.encode(rows, "train") == [[1.0, 0.5], [2.0, 7.0]]


def test_a_joined_column_is_split_at_its_delimiter():
    found, rows = problem(config=DataConfig(label_delimiter=";"), label=["red; blue", "", "blue"])
    assert found.names == ["blue", "red"]
    assert found.encode(rows, "train") == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]


def test_class_labels_in_lists_keep_their_order():
    features = Features({"label": List(ClassLabel(names=["z", "a"]))})
    rows = Dataset.from_dict({"label": [[1], [0, 1]]}, features=features)
    found = CLASSES_OR_NUMBERS.find(rows, ["label"], DataConfig())
    assert found.names == ["z", "a"]
    assert found.encode(rows, "train") == [[0.0, 1.0], [1.0, 1.0]]


def test_the_user_has_the_last_word():
    assert problem(config=DataConfig(problem_type=REGRESSION), label=["1", "2"])[0].NAME == REGRESSION
    assert problem(config=DataConfig(problem_type=MULTI), label=["1", "2"])[0].names == ["1", "2"]


def refused(make) -> UserError:
    with pytest.raises(UserError) as caught:
        make()
    return caught.value


def encode_other(found, **data):
    return refused(lambda: found.encode(Dataset.from_dict(data), "test"))


def test_what_is_wrong_in_another_split_is_named_with_its_row():
    several, _ = problem(label=[["a"], ["b"]])
    error = encode_other(several, label=[["a"], ["b", "c"]])
    assert error.what == "the label 'c' does not occur in the training rows (first in row 2)"
    numbers, _ = problem(label=[0.5, 1.5])
    assert encode_other(numbers, label=["1", "much"]).what == "row 2 holds 'much', which is not a finite number"
    assert encode_other(numbers, label=["1", "inf"]).what == "row 2 holds 'inf', which is not a finite number"
    flags, _ = problem("a", "b", a=[0, 1], b=[1, 0])
    error = encode_other(flags, a=[0, 1], b=[1, 2])
    assert (error.what, error.where) == ("row 2 holds 2; a column of a class holds 0 or 1", "test split, column 'b'")


def test_an_unknown_class_between_delimiters_is_named():
    output, _ = problem("tags", config=DataConfig(label_delimiter=";"), tags=["a;b", "a"])
    with pytest.raises(UserError, match=r"the label 'c' does not occur in the training rows \(first in row 2\)"):
        output.encode(Dataset.from_dict({"tags": ["a;b", "b;c"]}), "test")


def test_options_that_do_not_fit_are_refused():
    config = DataConfig(problem_type=SINGLE, label_delimiter=",")
    assert refused(lambda: problem(config=config, label=["a", "b"])).where == "--label_delimiter"
    config = DataConfig(problem_type=SINGLE)
    assert refused(lambda: problem("a", "b", config=config, a=["x"], b=["y"])).where == "--label_columns"
    config = DataConfig(problem_type=MULTI)
    assert "is not a list of labels" not in refused(lambda: problem(config=config, label=["a", "a"])).what
    assert "is not a list of labels" in refused(lambda: problem(config=config, label=["[a b]", "[c]"])).what


def test_rows_of_several_classes_count_in_each():
    rows = Dataset.from_dict({"label": [[1.0, 1.0], [0.0, 1.0]]})
    assert Splits(rows, None, None, MultiLabel(["a", "b"]), "here").class_counts("train").tolist() == [1, 2]


def test_strata():
    assert SingleLabel(["a", "b", "c"]).strata(np.array([2, 0, 1])).tolist() == [2, 0, 1]
    several = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert MultiLabel(["a", "b"]).strata(several).tolist() == [0, 1, 0, -1]
    groups = Regression(["x"]).strata(np.arange(100.0)[:, None])
    assert np.bincount(groups).tolist() == [10] * 10


def test_numbers_are_held_out_evenly():
    out = stratified_out(Regression(["x"]).strata(np.arange(200.0)[:, None]), 0.1, np.random.default_rng(0))
    assert np.bincount(np.flatnonzero(out) // 20 if out.dtype == bool else out // 20).tolist() == [2] * 10


def test_strings_that_arrow_types_differently_are_numbers_too():
    rows = Dataset.from_dict({"label": ["1.5", "2"]}, features=Features({"label": Value("large_string")}))
    assert CLASSES_OR_NUMBERS.find(rows, ["label"], DataConfig()).NAME == REGRESSION
