"""Label names keep their spelling, in natural order, and mean the same in every split."""

from __future__ import annotations

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Json, Value

from hf_finetune.config.options import DataConfig
from hf_finetune.data.rows.bad_rows import missing
from hf_finetune.data.rows.columns import Columns
from hf_finetune.data.rows.labels import encode_labels, label_names, natural_key, spell, unlabelled
from hf_finetune.errors import UserError
from hf_finetune.tasks.inputs import text


def column(values, kind=None) -> Dataset:
    if kind is None:
        return Dataset.from_dict({"label": values})
    if isinstance(kind, pa.DataType):
        return Dataset(pa.table({"label": pa.array(values, type=kind)}))
    return Dataset.from_dict({"label": values}, features=Features({"label": kind}))


def refused(function, *args) -> UserError:
    with pytest.raises(UserError) as caught:
        function(*args)
    return caught.value


def find_missing(rows, name):
    return missing(rows, name, text.rows, Columns({}, ["label"]), DataConfig(), blank=True)


# Natural order


@pytest.mark.parametrize(
    "ordered",
    [
        ["2", "10"],
        ["-1", "0", "1", "10"],
        ["class 1", "class 2", "class 10"],
        ["1 star", "2 stars", "10 stars"],
        ["a1b2", "a1b10", "a2b1"],
        ["1", "b", "c"],
        ["B", "b", "c"],
        ["apple", "Banana", "cherry"],
        ["x²", "y"],
        ["m", "m2²"],
        ["layer", "layer1", "layer2", "layer10"],
        ["01", "1", "2"],
    ],
)
def test_numbers_in_names_are_compared_as_numbers(ordered):
    assert sorted(ordered, key=natural_key) == ordered
    ordered_backwards = ordered[::-1]
    assert sorted(ordered_backwards, key=natural_key) == ordered


@pytest.mark.parametrize("name", ["²", "2²", "٣", "①", "", "-", "--1", "½", " 1", "1 ", "1.5", "é", "\n"])
def test_every_name_can_be_sorted(name):
    assert sorted([name, "a", "1"], key=natural_key).count(name) == 1


def test_order_does_not_depend_on_the_order_of_the_rows():
    assert label_names(column(["10", "9", "10", "1"]), "label") == ["1", "9", "10"]
    assert label_names(column(["1", "10", "9"]), "label") == ["1", "9", "10"]


# Spelling


def test_odd_spellings_are_classes_of_their_own():
    values = ["01", "1", "NA", "None", "nan", "null", "a", "A", "1.5"]
    names = label_names(column(values), "label")
    assert sorted(names) == sorted(values)
    assert [names[i] for i in encode_labels(column(values), "label", names, "train")] == values


def test_class_label_names_keep_their_order():
    names = ["zebra", "10", "2", "ant"]
    rows = column([3, 0, 2, 1], ClassLabel(names=names))
    assert label_names(rows, "label") == names
    assert encode_labels(rows, "label", names, "train") == [3, 0, 2, 1]


def test_class_label_names_without_rows_stay():
    rows = column([0, 2], ClassLabel(names=["a", "b", "c"]))
    assert label_names(rows, "label") == ["a", "b", "c"]


def test_class_labels_of_another_order_are_matched_by_name():
    test = column([0, 1, 1], ClassLabel(names=["b", "a"]))
    assert encode_labels(test, "label", ["a", "b"], "test") == [1, 0, 0]


def test_integers_are_their_digits_in_numeric_order():
    rows = column([10, 2, -1, 2])
    assert label_names(rows, "label") == ["-1", "2", "10"]
    assert encode_labels(rows, "label", ["-1", "2", "10"], "train") == [2, 1, 0, 1]


def test_whole_floats_are_spelled_as_integers():
    assert label_names(column([10.0, 2.0]), "label") == ["2", "10"]


def test_float_labels_match_integer_labels_of_another_split():
    assert encode_labels(column([1.0, 0.0]), "label", ["0", "1"], "test") == [1, 0]


def test_booleans_are_named():
    rows = column([True, False, True])
    assert label_names(rows, "label") == ["False", "True"]
    assert encode_labels(rows, "label", ["False", "True"], "train") == [1, 0, 1]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_every_type_of_text_that_arrow_has(kind):
    rows = column(["b", "a", "b"], kind)
    names = label_names(rows, "label")
    assert names == ["a", "b"]
    assert encode_labels(rows, "label", names, "train") == [1, 0, 1]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.int32()], ids=str)
def test_every_type_of_integer(kind):
    assert label_names(column([1, 0], kind), "label") == ["0", "1"]


# Refused


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        (["a", None, "b", ""], "(rows 2, 4)"),
        ([1, 2, None], "(rows 3)"),
        ([1.0, float("nan"), 2.0], "(rows 2)"),
        ([None] * 7 + ["a", "b"], "(rows 1, 2, 3, 4, 5, …)"),
    ],
)
def test_missing_labels_are_counted_with_their_rows(values, rows):
    error = refused(find_missing, column(values), "train")
    assert rows in error.what
    assert f"of {len(values)} rows have no label" in error.what
    assert error.where == "train split, column 'label'"


def test_missing_labels_of_another_split_name_it():
    error = refused(find_missing, column(["a", ""]), "test")
    assert error.where == "test split, column 'label'"
    assert "(rows 2)" in error.what


@pytest.mark.parametrize("hidden", [None, -1])
def test_a_class_label_without_a_value_is_missing_and_not_the_last_class(hidden):
    rows = column([0, hidden, 1, 2], ClassLabel(names=["a", "b", "c"]))
    assert "(rows 2)" in refused(find_missing, rows, "train").what


def test_spaces_in_a_column_of_mixed_values_are_missing():
    rows = column(["a", " ", {"b": 1}, 2], Json())
    assert "(rows 2)" in refused(find_missing, rows, "train").what


def test_a_class_that_only_the_test_split_has():
    error = refused(encode_labels, column(["a", "c", "d10", "d2"]), "label", ["a", "b"], "test")
    assert error.what == "the labels 'c', 'd2', 'd10' do not occur in the training rows (first in row 2)"
    assert error.where == "test split, column 'label'"


def test_one_unknown_class_is_spoken_of_in_the_singular():
    error = refused(encode_labels, column(["a", "A"]), "label", ["a", "b"], "validation")
    assert error.what == "the label 'A' does not occur in the training rows (first in row 2)"


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (column(["a", "a"]), "a"),
        (column([1, 1, 1]), "1"),
        (column([1, 1], ClassLabel(names=["a", "b"])), "b"),
    ],
    ids=["text", "integer", "ClassLabel"],
)
def test_one_class_is_refused(rows, name):
    error = refused(label_names, rows, "label")
    assert error.what == f"all training rows have the label '{name}'; a classifier needs two classes or more"


def test_ids_are_no_classes():
    assert "look like ids or free text" in refused(label_names, column([f"id{i}" for i in range(1500)]), "label").what


def test_a_thousand_classes_of_several_rows_are_classes():
    assert len(label_names(column([str(i % 1200) for i in range(3600)]), "label")) == 1200


def test_a_number_is_no_class():
    error = refused(label_names, column([0.5, 1.5]), "label")
    assert error.what == "the value 0.5 is a number, not a class"


@pytest.mark.parametrize("value", [["a"], {"a": 1}], ids=["list", "mapping"])
def test_several_labels_a_row_are_refused(value):
    rows = column([value, value])
    assert f"{type(value).__name__} values are no single class" in refused(label_names, rows, "label").what
    assert not unlabelled(rows, "label")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (1.0, "1"), (True, "True"), (" x ", "x"), ("1.0", "1"), ("-2.00", "-2"), ("01.0", "01.0")],
)
def test_spelling_of_one_value(value, text):
    assert spell(value, "label") == text


# Hidden labels


@pytest.mark.parametrize(
    "rows",
    [
        column([-1, -1], ClassLabel(names=["a", "b"])),
        column([-1, -1]),
        column([None, None], Value("string")),
        Dataset.from_dict({"text": ["a"]}),
    ],
    ids=["ClassLabel", "integer", "nothing", "no column"],
)
def test_splits_that_hide_their_labels(rows):
    assert unlabelled(rows, "label")


def test_a_split_with_some_labels_is_labelled():
    assert not unlabelled(column([-1, 0, 1]), "label")
    assert not unlabelled(column([0, 0]), "label")
