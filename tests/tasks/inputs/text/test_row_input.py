"""The user's columns of text in standard form: joined, paired, checked."""

from __future__ import annotations

import pyarrow as pa
import pytest
from datasets import Dataset

from hf_finetune.config.options import DataConfig
from hf_finetune.data import load_splits
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task
from hf_finetune.tasks.inputs import text

ROWS = Dataset.from_dict(
    {
        "title": ["One", None, " ", "Four"],
        "body": ["first", "second", "", None],
        "text": ["a", "b", "c", "d"],
        "n": [1, 2, 3, 4],
    }
)


def load_labelled_rows(**options):
    rows = ROWS.add_column("label", ["x", "y", "x", "y"])
    return load_splits(DataConfig(validation_split=0.0, **options), get_task("text-classification"), rows)


def test_several_columns_make_one_text_with_their_names():
    rows = ROWS.select([0, 1, 3])
    found = text.rows.clean(rows, {"title": "text", "body": "text"}, "here")
    assert found["text"][:] == ["title: One\nbody: first", "body: second", "title: Four"]
    assert found.column_names == ["text"]
    other = text.rows.clean(rows, {"body": "text", "title": "text"}, "here")
    assert other["text"][0] == "body: first\ntitle: One"


def test_line_breaks_at_the_end_of_a_text_stay():
    rows = Dataset.from_dict({"a": ["x"], "b": ["y\n\n"]})
    assert text.rows.clean(rows, {"a": "text", "b": "text"}, "here")["text"][0] == "a: x\nb: y\n\n"


def test_several_columns_beside_a_second_text_that_is_called_text():
    inputs = {"title": "text", "body": "text", "text": "text_pair"}
    found = text.rows.clean(ROWS.select([0]), inputs, "here")
    assert found[:] == {"text": ["title: One\nbody: first"], "text_pair": ["a"]}


def test_a_pair_whose_names_are_crossed():
    found = text.rows.clean(ROWS.select([0]), {"body": "text", "text": "text_pair"}, "here")
    assert found[:] == {"text": ["first"], "text_pair": ["a"]}


def test_a_row_of_which_all_columns_are_empty_is_refused():
    with pytest.raises(UserError) as caught:
        load_labelled_rows(text_columns=["title", "body"])
    assert caught.value.what == "1 of 4 rows have no text (rows 3)"
    assert caught.value.where == "train split, column 'title' and 'body'"


def test_one_missing_text_of_a_pair_is_refused():
    with pytest.raises(UserError) as caught:
        load_labelled_rows(text_column="text", text_pair_column="body")
    assert caught.value.where == "train split, column 'body'"
    assert caught.value.what == "1 of 4 rows have no text (rows 4)"


def test_numbers_are_no_text():
    with pytest.raises(UserError, match="the column holds int64, not text"):
        text.rows.clean(ROWS, {"n": "text"}, "here")


def test_every_type_of_text_can_be_joined():
    rows = Dataset(pa.table({"a": pa.array(["x"], pa.large_string()), "b": pa.array(["y"], pa.string_view())}))
    found = text.rows.clean(rows, {"a": "text", "b": "text"}, "here")
    assert found["text"][:] == ["a: x\nb: y"]
    assert found.features["text"].dtype == "string"


def test_joined_texts_are_read_from_the_cache_by_the_next_run(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("title,body,label\n" + "".join(f"t{i},b{i},{'ab'[i % 2]}\n" for i in range(20)))
    config = DataConfig(train_file=str(path), text_columns=["title", "body"], validation_split=0.0)
    first, second = (load_splits(config, get_task("text-classification"), None) for _ in range(2))
    assert first.train["text"][3] == "title: t3\nbody: b3"
    assert first.train._fingerprint == second.train._fingerprint
    assert first.inputs == {"title": "text", "body": "text"}


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"review": "text"}, "text column 'review'"),
        ({"title": "text", "body": "text"}, "texts of the columns 'title', 'body' in one"),
        ({"a": "text", "b": "text_pair"}, "pairs of texts: 'a' and 'b'"),
    ],
)
def test_what_is_read_is_said(inputs, sentence):
    assert text.rows.describe(inputs) == sentence


def test_the_line_of_a_run_says_that_pairs_were_found(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("hypothesis,premise,label\n" + "".join(f"h{i},p{i},{'ab'[i % 2]}\n" for i in range(20)))
    splits = load_splits(DataConfig(train_file=str(path)), get_task("text-classification"), None)
    assert splits.train[0] == {"text": "p0", "text_pair": "h0", "id": "0", "label": 0}
    assert "pairs of texts: 'premise' and 'hypothesis', label column 'label' with 2 classes" in capsys.readouterr().out
