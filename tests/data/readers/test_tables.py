"""Files of rows: what separates and quotes their cells, and what is wrong with them, line by line."""

from __future__ import annotations

import csv
import io
import json
import random

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_finetune.data.readers.delimited import BACKSLASH, PLAIN, SINGLE, SPACED, Dialect, find_dialect, parse_delimiter
from hf_finetune.data.readers.sources import read_file
from hf_finetune.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def rows(tmp_path):
    """Write a file and read it: a list of dictionaries."""

    def read(content, name="a.csv", **options):
        file = tmp_path / name
        content = content if isinstance(content, bytes) else content.encode()
        if not file.exists() or file.read_bytes() != content:
            file.write_bytes(content)
        return read_file(file, **options).to_list()

    return read


@pytest.fixture
def refused(rows, tmp_path):
    """The error of a file; it names the file, whatever it says."""

    def read(content, name="a.csv", **options) -> UserError:
        with pytest.raises(UserError) as caught:
            rows(content, name, **options)
        assert str(tmp_path / name) in caught.value.where or caught.value.where.startswith("--")
        assert not list(tmp_path.glob("cache/hf_finetune/*"))  # nothing half-read is left behind
        return caught.value

    return read


TWO = [{"text": "a, b", "label": "x"}, {"text": "c; d", "label": "y"}]

# What separates cells


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('text,label\n"a, b",x\nc; d,y\n', ""),
        ('text;label\na, b;x\n"c; d";y\n', "a.csv: cells are separated by semicolons.\n"),
        ("text\tlabel\na, b\tx\nc; d\ty\n", "a.csv: cells are separated by tabs.\n"),
        ("text|label\na, b|x\nc; d|y\n", "a.csv: cells are separated by bars.\n"),
    ],
)
def test_what_separates_cells_is_found_and_said_where_it_is_unusual(content, said, rows, capsys):
    assert rows(content) == TWO
    assert capsys.readouterr().out == said


def test_a_tsv_with_commas_is_read_by_them_and_says_so(rows, capsys):
    assert rows("text,label\na b,x\n", "a.tsv") == [{"text": "a b", "label": "x"}]
    assert capsys.readouterr().out == "a.tsv: cells are separated by commas.\n"


def test_one_column_has_no_delimiter_to_find(rows, capsys):
    assert rows("text\ngood\nbad; very; bad\n") == [{"text": "good"}, {"text": "bad; very; bad"}]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("mark", [";", "|", "\t"])
def test_texts_full_of_another_delimiter_do_not_mislead(mark, rows):
    content = "text,label\n" + f"one{mark} two{mark} three,x\n" * 50
    assert rows(content) == [{"text": f"one{mark} two{mark} three", "label": "x"}] * 50


def test_of_two_delimiters_in_the_header_the_one_that_fits_the_rows(rows):
    assert rows("text;label,or class\na;x\nb;y\n") == [
        {"text": "a", "label,or class": "x"},
        {"text": "b", "label,or class": "y"},
    ]


@pytest.mark.parametrize("asked", [";", "semicolon"])
def test_a_named_delimiter_is_taken_and_not_said(asked, rows, capsys):
    assert rows("a,b;label\nc;x\n", delimiter=asked) == [{"a,b": "c", "label": "x"}]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("asked", ["tab", "\\t", "\t", "TAB"])
def test_a_tab_can_be_spelled(asked):
    assert parse_delimiter(asked) == "\t"


@pytest.mark.parametrize("asked", [";;", '"', "a", "\n", "7", ""])
def test_what_cannot_separate_cells_is_refused(asked):
    with pytest.raises(UserError, match="cannot separate cells") as caught:
        parse_delimiter(asked)
    assert caught.value.where == "--delimiter"


# Quotes


def test_newlines_quotes_right_to_left_and_emoji_stay_as_they_are(rows):
    texts = [
        "one\ntwo\r\nthree",
        'he said "no", twice',
        "שלום, עולם",
        "مرحبا؛ عالم",
        "👩‍👩‍👧 👍🏽, ok",
        "\u202eabc",
        " x ",
        "",
    ]
    out = io.StringIO()
    csv.writer(out).writerows([("text", "label"), *((text, "01") for text in texts)])
    assert rows(out.getvalue()) == [{"text": text, "label": "01"} for text in texts]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL], ids=["all", "minimal"])
def test_whatever_is_written_comes_back(seed, quoting, rows):
    draw = random.Random(seed)
    table = [["".join(draw.choices("ab ,;|\t\n\"'é👍ש", k=draw.randrange(12))) for _ in "ab"] for _ in range(20)]
    out = io.StringIO()
    csv.writer(out, quoting=quoting).writerows([("text", "label"), *table])
    assert rows(out.getvalue()) == [{"text": text, "label": label} for text, label in table]


@pytest.mark.parametrize(
    ("body", "quoting", "cells"),
    [
        ('"a, ""b""",x', PLAIN, ['a, "b"', "x"]),
        ('a "b" c,x', PLAIN, ['a "b" c', "x"]),
        ("'tis good,x", PLAIN, ["'tis good", "x"]),
        ("a b, x", PLAIN, ["a b", " x"]),
        ('a, "b, c"', SPACED, ["a", "b, c"]),
        ('"a \\"b\\", c",x', BACKSLASH, ['a "b", c', "x"]),
        ("'a, b',x", SINGLE, ["a, b", "x"]),
        ("'it was','x'\n'it is','y'", SINGLE, ["it was", "x"]),
    ],
)
def test_quoting(body, quoting, cells):
    dialect = find_dialect(f"text,label\n{body}\n", True, ",")
    assert dialect == Dialect(",", quoting)
    assert next(iter(dialect.rows(io.StringIO(body)))) == cells


def test_tabs_without_quoting(rows, capsys):
    assert rows('text\tlabel\n"never closed\tx\nb\ty\n', "a.tsv")[0] == {"text": '"never closed', "label": "x"}
    assert capsys.readouterr().out == "a.tsv: quotes are a part of the cells.\n"


def test_unusual_quoting_is_said(rows, capsys):
    assert rows("text;label\n'a; b';x\n") == [{"text": "a; b", "label": "x"}]
    assert capsys.readouterr().out == "a.csv: cells are separated by semicolons and cells are quoted with '.\n"


def test_a_sample_that_ends_within_a_cell_is_no_broken_file(rows):
    long = "word, " * 100_000
    content = f'text,label\n"{long}",x\n' + "b,y\n" * 3
    assert [row["label"] for row in rows(content)] == ["x", "y", "y", "y"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('text,label\na,x\n"b,y\nc,x\n', "the row that begins in line 3 cannot be read: a quote opens in it and never closes"),
        ('text,label\n"a\nb",x\n"b" c,y\n', "the row that begins in line 4 cannot be read: its quotes are unbalanced"),
        ('text,label\n"a,x\nb,y\n"c",x\n', "line 2 cannot be read: its quotes are unbalanced (',' expected after '\"'"),
        ('text,label\n"a\nb",x\nc,y,z\n', "line 4 has 3 cells, but the header has 2"),
        ("text,label\n\n\na,x,1\n", "line 4 has 3 cells, but the header has 2"),
        ('"text,label\na,x\n', "the row that begins in line 1 cannot be read"),
        ("text,label,text\na,x,b\n", "the header has the name 'text' more than once"),
        ("text,label,\na,x,\n", "column 3 of 3 has no name in the header"),
        ("text, ,label\na,b,x\n", "column 2 of 3 has no name in the header"),
        (" \n\n", "column 1 of 1 has no name in the header"),
        ("\n\n", "the header cannot be read: all lines are empty"),
        ("text,label\n\n\n", "the file has no rows"),
        ("text,label\na,\0x\n", "the file is binary: it holds NUL bytes"),
        (b"PK\x03\x04\x14\x00\x06\x00", "the file is a zip archive or an Excel workbook, not text"),
        (b"\x1f\x8b\x08\x00abc", "the file is a gzip archive, not text"),
        (b"PAR1abc", "the file is a Parquet file, not text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(content, words, refused):
    error = refused(content)
    assert words in error.what
    assert error.fix.endswith((".", '"".'))


@pytest.fixture
def _short_cells(monkeypatch):
    monkeypatch.setattr("hf_finetune.data.readers.delimited.LARGEST_CELL", 1000)
    before = csv.field_size_limit(1000)
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("_short_cells")
def test_a_quote_that_never_closes_does_not_take_the_whole_file(refused):
    error = refused('text,label\na,x\n"b,y\n' + "c,x\n" * 1000)
    assert "begins in line 3" in error.what
    assert "a cell is longer than 1,000 characters, as where a quote never closes" in error.what


def test_cells_that_a_row_lacks_are_missing(rows):
    assert rows("text,label\na\nb,x\n") == [{"text": "a", "label": None}, {"text": "b", "label": "x"}]


def test_the_index_that_pandas_writes_is_not_read(rows, capsys):
    frame = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    assert rows(frame.to_csv()) == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    assert "the first column has no name and holds numbers" in capsys.readouterr().out


def test_a_first_column_of_texts_without_a_name_is_refused(refused):
    assert refused(",label\na text,x\n").what == "column 1 of 2 has no name in the header"


def test_a_file_is_kept_once_and_read_anew_when_read_otherwise(rows, tmp_path):
    first = rows("text;label\na;x\n")
    assert rows("text;label\na;x\n") == first == [{"text": "a", "label": "x"}]
    assert rows("text;label\na;x\n", delimiter=",") == [{"text;label": "a;x"}]
    assert not list(tmp_path.glob("cache/hf_finetune/*.partial"))


# JSON


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "a, b", "label": "x"}\n\n{"text": "c; d", "label": "y"}\n'),
        ("a.json", '{"text": "a, b", "label": "x"}\n{"text": "c; d", "label": "y"}'),
        ("a.json", json.dumps(TWO)),
        ("a.json", json.dumps(TWO, indent=4)),
        ("a.jsonl", "\n" + json.dumps(TWO)),
        ("a.json", json.dumps({"data": TWO, "version": "1"})),
        ("a.json", json.dumps({"version": "1", "examples": TWO}, indent=1)),
        ("a.json", json.dumps({"data": TWO, "other": [{"a": 1}]})),
        ("a.json", ("\ufeff" + json.dumps(TWO)).encode("utf-16-le")),
        ("a.jsonl", b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(row).encode() for row in TWO)),
    ],
)  # fmt: skip
def test_forms_of_json(name, content, rows):
    assert rows(content, name) == TWO


def test_one_object_is_one_row(rows):
    assert rows('{"text": "a", "label": "x"}', "a.json") == [{"text": "a", "label": "x"}]


def test_tasks_of_label_studio_are_their_texts_with_entities(rows):
    value = {"start": 0, "end": 3, "text": "Ada", "labels": ["per"]}
    label, choice = {"type": "labels", "value": value}, {"type": "choices", "value": {"choices": ["good"]}}
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    cancelled = {"was_cancelled": True, "result": [label, label]}
    given = [
        [cancelled, {"was_cancelled": False, "result": [choice, label, relation]}, {"result": [label, label]}],
        [{"result": [relation]}],
        [cancelled],
        [],
    ]
    tasks = [{"id": n, "data": {"text": "Ada"}, "annotations": each, "predictions": []} for n, each in enumerate(given)]
    expected = [{"id": n, "text": "Ada", "entities": e} for n, e in enumerate([[value], [], None, None])]
    for content in (json.dumps(tasks), "\n".join(map(json.dumps, tasks))):
        assert rows(content, "a.json") == expected


@pytest.mark.parametrize("annotations", [[1], "none", [{"result": "none"}], [{"result": [1]}]])
def test_other_objects_with_data_and_annotations(annotations, rows):
    row = {"data": {"text": "a"}, "annotations": annotations}
    unlabelled = {"text": "a", "entities": None}
    assert rows(json.dumps([row]), "a.json") == [unlabelled if isinstance(annotations[0], dict) else row]


def test_keys_that_differ_between_rows(rows):
    content = '{"text": "a"}\n{"label": 1, "text": "b"}\n{"text": null, "label": 2.5}\n'
    assert rows(content, "a.jsonl") == [
        {"text": "a", "label": None},
        {"text": "b", "label": 1.0},
        {"text": None, "label": 2.5},
    ]


def test_keys_and_types_that_only_later_rows_have(rows, monkeypatch):
    monkeypatch.setattr("hf_finetune.data.readers.json_rows.ROWS", 2)
    lines = [
        {"text": "a"},
        {"text": "b"},
        {"text": "c", "label": 1, "tags": []},
        {"text": "d", "label": 0.5, "tags": ["t"]},
    ]
    read = rows("\n".join(map(json.dumps, lines)), "a.jsonl")
    assert [row["label"] for row in read] == [None, None, 1.0, 0.5]
    assert [row["tags"] for row in read] == [None, None, [], ["t"]]


@pytest.mark.parametrize("block", [2, 10_000])
def test_a_column_of_several_types_is_text_and_says_so_each_time(block, rows, monkeypatch, capsys):
    monkeypatch.setattr("hf_finetune.data.readers.json_rows.ROWS", block)
    lines = "\n".join(map(json.dumps, [{"label": 1}, {"label": 2}, {"label": "a"}, {"label": True}, {"label": ["é"]}]))
    for _ in range(2):
        assert [row["label"] for row in rows(lines, "a.jsonl")] == ["1", "2", "a", "True", '["é"]']
        assert "column 'label' holds values of several types; it is read as text" in capsys.readouterr().out


def test_nan_is_a_missing_value(rows):
    assert rows('[{"text": NaN}, {"text": "a"}]', "a.json") == [{"text": None}, {"text": "a"}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n{"text": "c"}\n', "line 2 is not JSON"),
        ("a.jsonl", '{"text": "a"\n', "line 1 is not JSON"),
        ("a.jsonl", '{"text": "a"} {"text": "b"}\n', "line 1 is not JSON: Extra data"),
        ("a.json", '{"text": "a"}\n{"text": b}\n', "line 2 is not JSON: Expecting value (character 10)"),
        ("a.json", '[\n {"text": "a"},\n {"text": }\n]', "line 3 is not JSON: Expecting value"),
        ("a.json", '[\n {"text": "a"}\n {"text": "b"}\n]', "line 3 is not JSON: Expecting ',' delimiter"),
        ("a.json", '[{"text": "a"},', "line 1 is not JSON: Expecting value"),
        ("a.json", '[{"text": "a"}]\n]', "line 2 is not JSON: Extra data"),
        ("a.json", "text,label", "line 1 is not JSON"),
        ("a.json", "[]", "the file has no rows"),
        ("a.json", " \n", "line 2 is not JSON"),
        ("a.jsonl", " \n", "the file has no rows"),
        ("a.json", '[{"text": "a"},\n\n"b"]', "line 3 holds a text, not an object"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "line 2 holds a list, not an object"),
        ("a.json", "3", "line 1 holds a number, not an object"),
        ("a.json", '{"text": {"0": "a"}, "label": {"0": "x"}}', "one object with the keys 'text', 'label'"),
        ("a.json", '{"train": [{"text": "a"}], "test": [{"text": "a"}]}', "one object with the keys 'train', 'test'"),
        ("a.json", "{}", "one object with the keys (none)"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b \\ud83d"}\n', "line 2 holds half of a surrogate pair"),
        ("a.jsonl", b'{"text": "a\0"}\n', "the file is binary"),
        ("a.json", '{"text":' * 100_000, "line 1 is nested too deeply"),
    ],
)  # fmt: skip
def test_broken_json_is_named_with_its_line(name, content, words, refused):
    assert words in refused(content, name).what


# Parquet and Arrow


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
@pytest.mark.parametrize(
    "content", [b"text,label\na,x\n", b"PAR1 cut off", b"\0" * 100], ids=["csv", "cut off", "zeros"]
)
def test_broken_columns(ending, content, refused):
    error = refused(content, f"a{ending}")
    assert error.what.startswith("the rows cannot be read: ")
    assert "\n" not in error.what


def test_a_parquet_file_that_was_cut_off(tmp_path, refused):
    pq.write_table(pa.table({"text": ["a"] * 1000, "label": ["x"] * 1000}), tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()
    assert refused(content[:-20], "a.parquet").what.startswith("the rows cannot be read: ")


def test_a_file_without_the_right_to_read_it(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("text,label\na,x\n")

    def forbid(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("hf_finetune.data.readers.delimited.find_encoding", forbid)
    with pytest.raises(UserError, match="Permission denied"):
        read_file(tmp_path / "a.csv")
