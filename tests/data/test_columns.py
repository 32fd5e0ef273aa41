"""Columns are found by name and type, or named by the user."""

from __future__ import annotations

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from hf_finetune.data.columns import find_image, find_label, find_text, is_string
from hf_finetune.errors import UserError

KINDS = {
    "s": Value("string"),
    "i": Value("int64"),
    "f": Value("float32"),
    "c": ClassLabel(names=["a", "b"]),
    "p": Image(decode=False),
}


def table(**columns: str) -> Dataset:
    """An empty data set whose columns have the kinds of the letters in KINDS."""
    features = Features({name: KINDS[letter] for name, letter in columns.items()})
    return Dataset.from_dict({name: [] for name in columns}, features=features)


def refused(function, *args) -> UserError:
    with pytest.raises(UserError) as caught:
        function(*args)
    return caught.value


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"text": "s", "label": "i"}, "label"),
        ({"x": "s", "Label ": "s"}, "Label "),
        ({"sentence": "s", "intent": "s"}, "intent"),
        ({"img": "p", "fine_label": "c", "coarse_label": "c"}, "fine_label"),
        ({"a": "s", "b": "c"}, "b"),
        ({"text": "s", "y": "i"}, "y"),
        ({"text": "s", "target": "i", "label": "i"}, "label"),
    ],
)
def test_the_label_column_is_found(columns, label):
    assert find_label(table(**columns), None) == label


def test_two_unnamed_class_labels_are_not_guessed_between():
    error = refused(find_label, table(a="c", b="c", text="s"), None)
    assert error.what == "no column is clearly the label; the columns are 'a', 'b', 'text'"
    assert error.fix == "name it with --label_column."


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"text": "s", "label": "i"}, "text"),
        ({"title": "s", "Text": "s", "label": "i"}, "Text"),
        ({"title": "s", "label": "i"}, "title"),
        ({"idx": "i", "tweet": "s", "user": "s", "label": "s"}, "tweet"),
        ({"content": "i", "words": "s", "label": "i"}, "words"),
        ({"review": "s", "sentence": "s", "label": "i"}, "sentence"),
    ],
)
def test_the_text_column_is_found(columns, text):
    assert find_text(table(**columns), None, ("label",)) == text


def test_the_label_is_never_taken_for_the_text():
    error = refused(find_text, table(n="i", label="s"), None, ("label",))
    assert error.what == "no column is clearly the text; the columns are 'n', 'label'"


def test_two_columns_of_text_are_not_guessed_between():
    assert refused(find_text, table(a="s", b="s", label="i"), None, ("label",)).fix == "name it with --text_column."


@pytest.mark.parametrize(
    ("columns", "image"),
    [
        ({"image": "p", "label": "c"}, "image"),
        ({"img": "p", "label": "c"}, "img"),
        ({"scan": "p", "label": "c"}, "scan"),
        ({"mask": "p", "Image": "p", "label": "c"}, "Image"),
        ({"image": "s", "scan": "p", "label": "c"}, "scan"),
    ],
)
def test_the_image_column_is_found(columns, image):
    assert find_image(table(**columns), None) == image


def test_data_without_images_lists_its_columns():
    error = refused(find_image, table(text="s", label="c"), None)
    assert error.what == "no column is clearly the image; the columns are 'text', 'label'"


def test_a_named_column_wins():
    rows = table(text="s", other="s", label="i", grade="i", image="p", scan="p")
    assert find_label(rows, "grade") == "grade"
    assert find_text(rows, "other", ("label",)) == "other"
    assert find_image(rows, "scan") == "scan"


@pytest.mark.parametrize(
    ("find", "flag"),
    [
        (find_label, "--label_column"),
        (lambda rows, name: find_text(rows, name, ("label",)), "--text_column"),
        (find_image, "--image_column"),
    ],
    ids=["label", "text", "image"],
)
def test_a_named_column_that_is_missing_lists_those_there_are(find, flag):
    rows = table(text="s", label="i", image="p")
    error = refused(find, rows, "labell")
    assert error.what == "there is no column 'labell'; the columns are 'text', 'label', 'image'"
    assert error.where == flag
    assert error.fix == f"did you mean {flag} label? give one of these to {flag}."
    assert refused(find, rows, "zzz").fix == f"give one of these to {flag}."


@pytest.mark.parametrize(
    ("kind", "text"),
    [(pa.string(), True), (pa.large_string(), True), (pa.string_view(), True), (pa.int64(), False)],
    ids=str,
)
def test_what_counts_as_text(kind, text):
    rows = Dataset(pa.table({"x": pa.array([], type=kind), "label": pa.array([], type=pa.int64())}))
    assert is_string(rows, "x") is text
