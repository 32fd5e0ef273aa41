"""Columns are found by name and type, or named by the user."""

from __future__ import annotations

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from hf_finetune.config.options import DataConfig
from hf_finetune.data.rows.columns import PAIR_NAMES, find_image, find_label, find_text, find_texts, is_string
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
    assert find_text(table(**columns), ("label",)) == text


def test_the_label_is_never_taken_for_the_text():
    error = refused(find_text, table(n="i", label="s"), ("label",))
    assert error.what == "no column is clearly the text; the columns are 'n', 'label'"


def test_two_columns_of_text_are_not_guessed_between():
    assert refused(find_text, table(a="s", b="s", label="i"), ("label",)).fix == "name it with --text_column."


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
    assert find_texts(rows, DataConfig(text_column="other"), ("label",)) == {"other": "text"}
    assert find_image(rows, "scan") == "scan"


@pytest.mark.parametrize(
    ("find", "flag"),
    [
        (find_label, "--label_column"),
        (lambda rows, name: find_texts(rows, DataConfig(text_column=name), ("label",)), "--text_column"),
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


def texts(rows, trained=None, **named):
    return find_texts(rows, DataConfig(**named), ("label",), trained)


@pytest.mark.parametrize("names", PAIR_NAMES, ids="/".join)
def test_a_known_pair_is_found_whatever_stands_beside_it(names):
    first, second = names
    rows = table(idx="i", genre="s", **{second: "s", first: "s"}, label="i")
    assert texts(rows) == {first: "text", second: "text_pair"}
    assert list(texts(rows)) == [first, second]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"Sentence1": "s", " sentence2": "s", "label": "i"}, {"Sentence1": "text", " sentence2": "text_pair"}),
        ({"text": "s", "sentence1": "s", "sentence2": "s", "label": "i"}, {"text": "text"}),
        ({"query": "s", "passage": "i", "label": "i"}, {"query": "text"}),
        ({"question": "s", "sentence": "s", "text": "s", "label": "i"}, {"text": "text"}),
        ({"sentence": "s", "premise": "s", "label": "i"}, {"sentence": "text"}),
    ],
)
def test_a_text_by_its_name_or_half_a_pair_is_no_pair(columns, found):
    assert texts(table(**columns)) == found


def test_two_known_pairs_are_not_guessed_between():
    rows = table(premise="s", hypothesis="s", text1="s", text2="s", label="i")
    assert refused(texts, rows).fix == "name it with --text_column."
    assert texts(rows, text_pair_column="text2") == {"text1": "text", "text2": "text_pair"}


def test_columns_of_a_pair_can_be_named():
    rows = table(a="s", b="s", sentence1="s", sentence2="s", label="i")
    assert texts(rows, text_column="b", text_pair_column="a") == {"b": "text", "a": "text_pair"}
    assert texts(rows, text_column="sentence1") == {"sentence1": "text"}
    assert texts(table(c="s", d="s", label="i"), text_pair_column="c") == {"d": "text", "c": "text_pair"}
    error = refused(lambda: texts(rows, text_column="a", text_pair_column="a"))
    assert error.what == "'a' is named as both texts of a pair"


def test_several_columns_of_one_text_keep_the_order_in_which_they_are_named():
    rows = table(body="s", title="s", other="s", label="i")
    assert list(texts(rows, text_columns=["title", "body"]).items()) == [("title", "text"), ("body", "text")]
    assert (
        refused(lambda: texts(rows, text_columns=["title", "bdy"])).fix
        == "did you mean --text_columns body? give one of these to --text_columns."
    )
    error = refused(lambda: texts(rows, text_columns=["title"], text_column="body"))
    assert error.what == "--text_column and --text_columns exclude each other"


def test_what_a_model_was_trained_on_is_looked_for_by_name():
    trained = {"text": ["title", "body"], "text_pair": ["answer"]}
    rows = table(text="s", answer="s", body="s", title="s", reply="s")
    assert list(texts(rows, trained).items()) == [("title", "text"), ("body", "text"), ("answer", "text_pair")]
    assert texts(rows, trained, text_column="text") == {"text": "text", "answer": "text_pair"}
    changed = texts(rows, trained, text_pair_column="reply")
    assert changed == {"title": "text", "body": "text", "reply": "text_pair"}
    error = refused(lambda: texts(table(text="s", title="s"), trained))
    assert error.what == "there is no column 'body', which the model was trained on; the columns are 'text', 'title'"
    assert error.fix == "name the column with --text_column."
    assert refused(lambda: texts(table(text="s"), {"text": ["text"], "text_pair": ["b"]})).fix.endswith(
        "--text_pair_column."
    )
