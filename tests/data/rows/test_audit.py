"""What is wrong with the rows comes out before training."""

from __future__ import annotations

import pytest
from datasets import Dataset
from PIL import Image

from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.data.readers.folder import open_classes
from hf_finetune.data.rows.audit import audit
from hf_finetune.data.rows.duplicates import find_duplicates, keyed_rows, name_groups, tables
from hf_finetune.data.splits.splits import Splits
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task
from hf_finetune.tasks.outputs import SingleLabel

TEXTS, IMAGES = get_task("text-classification"), get_task("image-classification")


@pytest.fixture
def images(tmp_path):
    """Three classes of three images, for training and for testing; returns the root and how to read it."""
    for red, split in enumerate(("train", "test")):
        for blue, name in enumerate(("a", "b", "c")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(3):
                Image.new("RGB", (8, 8), (100 * red, 40 * index, 80 * blue)).save(folder / f"{index}.png")

    def read() -> Splits:
        train, test = open_classes(tmp_path / "train", IMAGE).keep(), open_classes(tmp_path / "test", IMAGE).keep()
        return Splits(train, None, test, SingleLabel(["a", "b", "c"]), "images")

    return tmp_path, read


def texts(*labels: int) -> Dataset:
    ids = [str(index) for index in range(len(labels))]
    return Dataset.from_dict({"id": ids, "text": [f"text {index}" for index in ids], "label": list(labels)})


def test_good_images_pass_untouched(images):
    _, read = images
    splits = audit(read(), IMAGES)
    assert (len(splits.train), len(splits.test), splits.notes) == (9, 9, [])


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_unreadable_image_stops_the_run_and_is_named(images, split):
    root, read = images
    broken = root / split / "b" / "1.png"
    broken.write_text("no image")
    with pytest.raises(UserError) as caught:
        audit(read(), IMAGES)
    assert caught.value.what.startswith(f"1 of 9 images cannot be read; the first: {broken} (")
    assert caught.value.where == f"{split} split"
    assert "--on_bad_image skip" in caught.value.fix


def test_skipping_drops_and_counts_unreadable_images(images, capsys):
    root, read = images
    for name in ("train/a/2.png", "train/b/1.png", "test/c/0.png"):
        (root / name).write_bytes(b"\x89PNG broken")
    splits = audit(read(), IMAGES, "skip")
    assert splits.train["id"][:] == ["a/0.png", "a/1.png", "b/0.png", "b/2.png", "c/0.png", "c/1.png", "c/2.png"]
    assert splits.train["label"][:] == [0, 0, 1, 1, 2, 2, 2]
    assert len(splits.test) == 8
    assert splits.notes == [
        "2 unreadable images of the train split are skipped: a/2.png, b/1.png",
        "1 unreadable images of the test split are skipped: c/0.png",
    ]
    assert "2 unreadable images of the train split" in capsys.readouterr().out


def test_a_split_without_any_readable_image_is_refused(images):
    root, read = images
    for file in (root / "test").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        audit(read(), IMAGES, "skip")
    assert (caught.value.what, caught.value.where) == ("no image can be read", "test split")


def test_a_class_that_lost_all_its_images_is_said(images):
    root, read = images
    for file in (root / "train" / "b").iterdir():
        file.write_bytes(b"")
    splits = audit(read(), IMAGES, "skip")
    assert splits.class_counts("train").tolist() == [3, 0, 3]
    assert splits.notes[-1] == "1 of 3 classes have no training row: b."


def test_one_class_left_after_skipping_is_refused(images):
    root, read = images
    for name in ("a", "b"):
        for file in (root / "train" / name).iterdir():
            file.write_bytes(b"")
    with pytest.raises(UserError):
        audit(read(), IMAGES, "skip")


def test_the_table_counts_rows_and_classes(capsys):
    audit(
        Splits(texts(0, 0, 0, 1), texts(1).map(lambda row: {"text": "x"}), None, SingleLabel(["many", "few"]), "here"),
        TEXTS,
    )
    lines = [[cell.strip() for cell in line.split("│")] for line in capsys.readouterr().out.splitlines()]
    cells = [[cell for cell in line if cell] for line in lines]
    assert ["train", "4", "2", "few (1)", "many (3)"] in cells
    assert ["validation", "1", "1", "few (1)", "few (1)"] in cells


def test_classes_without_training_rows_are_a_warning(capsys):
    splits = audit(Splits(texts(0, 2), None, None, SingleLabel(["a", "b", "c", "d"]), "here"), TEXTS)
    assert splits.notes == ["2 of 4 classes have no training row: b, d."]
    assert "Warning: 2 of 4 classes have no training row: b, d." in capsys.readouterr().out


def test_what_two_splits_share_and_what_has_two_labels_is_said(capsys):
    rows = {"id": ["a", "b", "c"], "text": ["one", "two", "two"], "label": [0, 0, 1]}
    test = Dataset.from_dict({"id": ["x", "y", "z"], "text": ["one", "three", "four"], "label": [0, 1, 0]})
    validation = Dataset.from_dict({"id": ["v", "w"], "text": ["three", "five"], "label": [1, 0]})
    splits = audit(Splits(Dataset.from_dict(rows), validation, test, SingleLabel(["no", "yes"]), "here"), TEXTS)
    assert splits.notes == [
        "1 rows of the test split (33%) are also rows of the train split: train a (no) = test x (no).",
        "1 rows of the test split (33%) are also rows of the validation split: validation v (yes) = test y (yes).",
        "1 inputs occur with different labels: train b (no) = train c (yes).",
    ]
    assert "Warning: 1 rows of the test split (33%) are also rows of the train split" in capsys.readouterr().out


def test_the_same_image_in_two_splits_is_said(images):
    root, read = images
    (root / "test" / "c" / "2.png").write_bytes((root / "train" / "a" / "1.png").read_bytes())
    notes = audit(read(), IMAGES).notes
    assert notes == [
        "1 rows of the test split (11%) are also rows of the train split: train a/1.png (a) = test c/2.png (c).",
        "1 inputs occur with different labels: train a/1.png (a) = test c/2.png (c).",
    ]


def test_training_rows_that_are_all_the_same_are_refused():
    train = Dataset.from_dict({"id": ["0", "1", "2"], "text": ["x"] * 3, "label": [0, 1, 0]})
    with pytest.raises(UserError, match="all 3 training rows have the same input"):
        audit(Splits(train, None, None, SingleLabel(["a", "b"]), "here"), TEXTS)


def test_of_many_equal_rows_one_of_each_split_and_label_is_named():
    rows = {"id": [f"a{i}" for i in range(9)], "text": ["x"] * 8 + ["y"], "label": [0, 0, 0, 0, 0, 1, 0, 0, 1]}
    test = Dataset.from_dict({"id": ["b0", "b1"], "text": ["x", "z"], "label": [0, 1]})
    splits = Splits(Dataset.from_dict(rows), None, test, SingleLabel(["no", "yes"]), "here")
    found = find_duplicates(keyed_rows(splits, TEXTS.input.rows))
    assert name_groups(splits, found, 1) == ["train a0 (no) = train a5 (yes) = test b0 (no) (of 9 rows)"]


@pytest.mark.parametrize("chosen", [None, [0, 3, 4, 8], [8, 0, 3, 3], [5], list(range(9))])
def test_tables_give_the_rows_in_their_order(chosen):
    rows = Dataset.from_dict({"id": list("abcdefghi"), "text": list("ABCDEFGHI")})
    split = rows if chosen is None else rows.select(chosen)
    parts = list(tables(split, ["text"], 2))
    assert [text for part in parts for text in part["text"].to_pylist()] == split["text"][:]
    assert all(0 < len(part) <= 2 and part.column_names == ["text"] for part in parts)
