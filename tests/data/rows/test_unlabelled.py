"""Rows to be predicted: read a piece at a time, with their ids, from any file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from hf_finetune.config.options import DataConfig
from hf_finetune.data.readers import source
from hf_finetune.data.rows import unlabelled
from hf_finetune.data.rows.unlabelled import find_faults, open_unlabelled, read_pieces
from hf_finetune.errors import UserError
from hf_finetune.tasks.inputs import image, text

TEXTS = [f"text {row}" for row in range(25)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Files are read anew, in small batches."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(source, "BLOCK", 4)


def write(folder, ending):
    path = folder / f"rows.{ending}"
    if ending == "parquet":
        pd.DataFrame({"text": TEXTS}).to_parquet(path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in TEXTS)])
    return str(path)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("size", [1, 4, 7, 25, 100])
def test_pieces_are_the_rows_in_their_order_from_any_piece_on(ending, size, tmp_path):
    given = open_unlabelled(write(tmp_path, ending), text.rows, DataConfig())
    assert len(given) == 25
    pieces = list(given.pieces(size))
    assert [len(piece) for piece in pieces] == [size] * (25 // size) + [25 % size] * (25 % size > 0)
    assert [text for piece in pieces for text in piece["text"]] == TEXTS
    assert [i for piece in pieces for i in piece["id"]] == [str(row) for row in range(25)]
    for first in range(len(pieces) + 1):
        assert [p["text"][:] for p in given.pieces(size, first)] == [p["text"][:] for p in pieces[first:]]


def test_no_more_is_read_than_a_piece_takes(tmp_path, monkeypatch):
    given = open_unlabelled(write(tmp_path, "csv"), text.rows, DataConfig())
    read, batches = [], unlabelled._batches
    monkeypatch.setattr(unlabelled, "_batches", lambda rows: (read.append(b.num_rows) or b for b in batches(rows)))
    for number, piece in enumerate(read_pieces(given.rows, ["text"], 6), 1):
        assert len(piece) == 6 or number == 5
        assert sum(read) <= number * 6 + 4


def test_rows_that_are_held_in_memory_are_read_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.IN_MEMORY_MAX_SIZE", 1e9)
    given = open_unlabelled(write(tmp_path, "parquet"), text.rows, DataConfig())
    assert [text for piece in given.pieces(7) for text in piece["text"]] == TEXTS


def test_columns_encoding_and_delimiter_are_as_in_training(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("id;titre;corps\nx;été;long\ny;;court\n".encode("cp1252"))
    config = DataConfig(text_columns=["titre", "corps"], encoding="cp1252", delimiter=";")
    (piece,) = open_unlabelled(str(path), text.rows, config).pieces(10)
    assert piece["text"][:] == ["titre: été\ncorps: long", "corps: court"]
    assert piece["id"][:] == ["x", "y"]


def test_the_columns_of_the_model_are_looked_for(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("b,a\n2,1\n4,3\n")
    (piece,) = open_unlabelled(str(path), text.rows, DataConfig(), {"text": ["a"], "text_pair": ["b"]}).pieces(10)
    assert (piece["text"][:], piece["text_pair"][:]) == (["1", "3"], ["2", "4"])


def test_either_text_of_a_pair_may_be_missing(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [("x", "y"), (None, "y"), ("x", None), (None, None)]
    path.write_text("".join(json.dumps({"a": a, "b": b}) + "\n" for a, b in rows))
    config = DataConfig(text_column="a", text_pair_column="b", on_bad_row="skip")
    faults = find_faults(open_unlabelled(str(path), text.rows, config), 2, config)
    assert [(fault["row"], fault["reason"]) for fault in faults] == [
        (2, "no text in column 'a'"),
        (3, "no text in column 'b'"),
        (4, "no text in column 'a'"),
    ]


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path, "csv")
    read = unlabelled.open_rows

    def grows(place, *how):
        rows = read(place, *how)
        with Path(path).open("a") as file:
            file.write("late\n")
        return rows

    monkeypatch.setattr(unlabelled, "open_rows", grows)
    with pytest.raises(UserError, match=r"the file changed while it was read \(it had \d+ bytes\)"):
        open_unlabelled(path, text.rows, DataConfig())


def test_a_image_that_changed_is_another_input(tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (9, 9)).save(folder / "a.png")
    before = open_unlabelled(str(folder), image.rows, DataConfig()).identity()
    assert open_unlabelled(str(folder), image.rows, DataConfig()).identity() == before
    Image.new("RGB", (50, 9)).save(folder / "a.png")
    assert open_unlabelled(str(folder), image.rows, DataConfig()).identity() != before


def test_rows_of_a_table_without_their_images_can_be_left_out(tmp_path):
    from PIL import Image

    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    table = tmp_path / "rows.csv"
    table.write_text("file\na.png\ngone.png\n")
    with pytest.raises(UserError, match="1 of 2 images are missing"):
        open_unlabelled(str(table), image.rows, DataConfig())
    config = DataConfig(on_bad_image="skip")
    faults = find_faults(open_unlabelled(str(table), image.rows, config), 10, config)
    assert faults == [{"row": 2, "id": "gone.png", "reason": "no image"}]
