"""From files, folders and data sets in memory to clean splits."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, load_from_disk
from PIL import Image as Pillow

from hf_finetune.config.options import DataConfig
from hf_finetune.data.load import load_labelled, load_splits
from hf_finetune.data.readers.sources import read_file
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task
from hf_finetune.tasks.outputs import SingleLabel

ROWS = [('one, "two"', "01"), ("three\nfour", "NA"), ("five", "None"), ("six", "01"), ("seven", " 1"), ("é ½", "NA")]
TEXTS, LABELS = [text for text, _ in ROWS], [label for _, label in ROWS]
STRIPPED = [label.strip() for label in LABELS]  # spaces around a name are no part of it
FRAME = pd.DataFrame({"text": TEXTS, "label": LABELS})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def write(path, frame: pd.DataFrame = FRAME) -> str:
    match path.suffix.lower():
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".json":
            path.write_text(json.dumps(frame.to_dict("records")), encoding="utf-8")
        case ".jsonl":
            lines = (json.dumps(row, ensure_ascii=False) for row in frame.to_dict("records"))
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        case ".parquet":
            frame.to_parquet(path, index=False)
        case ".arrow":
            rows = Dataset.from_pandas(frame, preserve_index=False)
            rows.save_to_disk(path.with_suffix(".saved"))
            next(path.with_suffix(".saved").glob("*.arrow")).rename(path)
    return str(path)


def load(kind="text", dataset=None, **options):
    return load_splits(DataConfig(**{"validation_split": 0.0} | options), get_task(f"{kind}-classification"), dataset)


def named(splits, split="train") -> list[str]:
    return [splits.labels[i] for i in getattr(splits, split)["label"]]


def refused(*args, **options) -> UserError:
    with pytest.raises(UserError) as caught:
        load(*args, **options)
    return caught.value


def texts(labels, **more) -> Dataset:
    return Dataset.from_dict({"text": [f"row {i}" for i in range(len(labels))], "label": labels} | more)


# Files


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow", ".CSV"])
def test_every_format_gives_the_same_rows(ending, tmp_path):
    splits = load(train_file=write(tmp_path / f"rows{ending}"))
    assert splits.train["text"][:] == TEXTS
    assert named(splits) == STRIPPED
    assert splits.labels == ["01", "1", "NA", "None"]
    assert splits.train["id"][:] == ["0", "1", "2", "3", "4", "5"]
    assert splits.source == f"rows{ending}"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_every_type_of_text_in_memory(kind):
    columns = {"text": pa.array(TEXTS, type=kind), "label": pa.array(LABELS, type=kind)}
    splits = load(dataset=Dataset(pa.table(columns)))
    assert splits.train.features["text"].dtype == "string"
    assert (splits.train["text"][:], named(splits)) == (TEXTS, STRIPPED)


def test_a_pandas_category_column_in_parquet(tmp_path):
    frame = FRAME.assign(label=FRAME["label"].astype("category"))
    assert named(load(train_file=write(tmp_path / "a.parquet", frame))) == STRIPPED


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    file = tmp_path / "excel.csv"
    file.write_bytes(b"\xef\xbb\xbf" + FRAME.to_csv(index=False).encode())
    assert load(train_file=str(file)).train["text"][:] == TEXTS


def test_integer_labels_of_a_csv_are_ordered_as_numbers(tmp_path):
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [10, 9, 10]})
    assert load(train_file=write(tmp_path / "a.csv", frame)).labels == ["9", "10"]


def test_three_files_are_three_splits(text_files):
    splits = load(**{f"{split}_file": path for split, path in text_files.items()})
    assert {name: len(split) for name, split in splits.items()} == {"train": 64, "validation": 16, "test": 21}
    assert splits.labels == ["negative", "positive"]
    for name, path in text_files.items():
        assert named(splits, name) == pd.read_csv(path)["label"].tolist()


def test_ids_of_the_rows_are_kept(tmp_path):
    frame = FRAME.assign(id=["a7", "a8", "007", "4", "5", "6"])
    splits = load(train_file=write(tmp_path / "a.csv", frame), text_column="text")
    assert splits.train["id"][:] == ["a7", "a8", "007", "4", "5", "6"]


def test_named_columns(tmp_path):
    frame = pd.DataFrame({"a": TEXTS, "b": LABELS, "label": ["x"] * 6})
    splits = load(train_file=write(tmp_path / "a.csv", frame), text_column="a", label_column="b")
    assert (splits.train["text"][:], named(splits)) == (TEXTS, STRIPPED)
    assert sorted(splits.train.column_names) == ["id", "label", "text"]


def test_an_empty_text_is_a_text(tmp_path):
    frame = pd.DataFrame({"text": ["", "b"], "label": ["x", "y"]})
    assert load(train_file=write(tmp_path / "a.csv", frame)).train["text"][:] == ["", "b"]


# Files that cannot be used


def test_a_missing_file(tmp_path):
    error = refused(train_file=str(tmp_path / "no.csv"))
    assert (error.what, error.where) == ("the file does not exist", str(tmp_path / "no.csv"))


def test_a_folder_is_no_file(tmp_path):
    assert refused(train_file=str(tmp_path)).what == "the file does not exist"


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow"])
def test_an_empty_file(ending, tmp_path):
    file = tmp_path / f"empty{ending}"
    file.touch()
    error = refused(train_file=str(file))
    assert (error.what, error.where) == ("the file is empty", str(file))


@pytest.mark.parametrize(("name", "shown"), [("rows.xlsx", "'.xlsx'"), ("rows", "'(nothing)'")])
def test_an_unknown_ending_lists_those_that_are_read(name, shown, tmp_path):
    (tmp_path / name).write_text("x")
    error = refused(train_file=str(tmp_path / name))
    assert error.what == f"files ending in {shown} are not read"
    assert ".csv, .tsv, .json, .jsonl, .parquet, .arrow" in error.fix


@pytest.mark.parametrize("text", ["text,label\n", "text,label"])
def test_a_csv_without_rows(text, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    error = refused(train_file=str(tmp_path / "a.csv"))
    assert (error.what, error.where) == ("the file has no rows", str(tmp_path / "a.csv"))


def test_a_csv_of_empty_lines(tmp_path):
    (tmp_path / "a.csv").write_text("\n\n\n")
    error = refused(train_file=str(tmp_path / "a.csv"))
    assert error.what.startswith("the header cannot be read")
    assert error.where == str(tmp_path / "a.csv")


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_rubbish_in_a_file_is_named(ending, tmp_path):
    file = tmp_path / f"a{ending}"
    file.write_bytes(b"\x00\x01 not this")
    error = refused(train_file=str(file))
    assert error.what.startswith("the rows cannot be read")
    assert error.where == str(file)


@pytest.mark.parametrize(
    "text", ["text,label\na,x\nb, c,y\n", "text,label\nb, c,y\na, d,x\n"], ids=["second row", "every row"]
)
def test_more_cells_than_columns_are_refused_and_not_shifted(text, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    assert refused(train_file=str(tmp_path / "a.csv")).where == str(tmp_path / "a.csv")


def test_a_row_that_ends_early_has_no_label(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,x\nb\nc,y\n")
    assert "1 of 3 rows have no label (rows 2)" in refused(train_file=str(tmp_path / "a.csv")).what


def test_a_missing_text_is_refused_with_its_row(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": null, "label": "y"}\n')
    error = refused(train_file=str(tmp_path / "a.jsonl"))
    assert error.what == "1 of 2 rows have no text (rows 2)"


def test_a_missing_column_lists_those_there_are(tmp_path):
    error = refused(train_file=write(tmp_path / "a.csv"), label_column="lable")
    assert error.what == "there is no column 'lable'; the columns are 'text', 'label'"
    assert error.fix == "did you mean --label_column label? give one of these to --label_column."


def test_a_split_without_the_text_column_lists_those_there_are(tmp_path):
    train = write(tmp_path / "a.csv")
    test = write(tmp_path / "b.csv", FRAME.rename(columns={"text": "words"}))
    error = refused(train_file=train, test_file=test)
    assert error.what == "there is no column 'text', which the training rows have; the columns are 'words', 'label'"
    assert error.where == "test split"


def test_numbers_are_no_text(tmp_path):
    frame = pd.DataFrame({"text": [1, 2], "label": ["x", "y"]})
    error = refused(train_file=write(tmp_path / "a.parquet", frame), text_column="text")
    assert error.what == "the column holds int64, not text"


def test_a_class_that_only_the_test_file_has(tmp_path):
    train = write(tmp_path / "a.csv")
    test = write(tmp_path / "b.csv", pd.DataFrame({"text": ["a", "b"], "label": ["01", "2"]}))
    error = refused(train_file=train, test_file=test)
    assert error.what == "the label '2' does not occur in the training rows (first in row 2)"
    assert error.where == "test split, column 'label'"


def test_missing_labels_of_a_csv_are_counted_with_their_rows(tmp_path):
    frame = FRAME.assign(label=["a", "", "b", "", "a", "b"])
    assert "2 of 6 rows have no label (rows 2, 4)" in refused(train_file=write(tmp_path / "a.csv", frame)).what


def test_no_data():
    assert refused().what == "no data was given"


# Folders


def test_a_saved_dataset_dict(tmp_path):
    DatasetDict(train=texts([1, 0]), validation=texts([0]), test=texts([1, 1, 0])).save_to_disk(tmp_path / "saved")
    splits = load(dataset_name=str(tmp_path / "saved"))
    assert named(splits) == ["1", "0"]
    assert named(splits, "validation") == ["0"]
    assert named(splits, "test") == ["1", "1", "0"]
    assert splits.source == "saved"


def test_a_saved_dataset_is_the_training_split(tmp_path):
    texts(["b", "a"]).save_to_disk(tmp_path / "saved")
    assert len(load_from_disk(tmp_path / "saved")) == 2
    splits = load(dataset_name=str(tmp_path / "saved"))
    assert named(splits) == ["b", "a"]
    assert (splits.validation, splits.test) == (None, None)


def test_a_folder_of_files_by_split(tmp_path):
    write(tmp_path / "train.csv")
    write(tmp_path / "dev.jsonl", FRAME[:2])
    write(tmp_path / "Test.parquet", FRAME[:3])
    (tmp_path / "notes.txt").write_text("not data")
    splits = load(dataset_name=str(tmp_path))
    assert {name: len(split) for name, split in splits.items()} == {"train": 6, "validation": 2, "test": 3}


def test_a_folder_without_rows_says_what_is_looked_for(tmp_path):
    (tmp_path / "readme.md").touch()
    error = refused(dataset_name=str(tmp_path))
    assert "no train.csv" in error.what
    assert "--train_file" in error.fix


def test_a_name_that_is_no_folder_and_cannot_be_fetched():
    error = refused(dataset_name="nobody/nothing-of-this-name")
    assert error.where == "--dataset_name nobody/nothing-of-this-name"


def test_a_folder_of_images_by_split(image_folder):
    splits = load("image", dataset_name=image_folder)
    assert splits.labels == ["class 1", "class 2", "class 10"]
    assert {name: len(split) for name, split in splits.items()} == {"train": 48, "validation": 12, "test": 13}
    assert splits.train["id"][0] == "class 1/2.png"
    assert sorted(splits.train.column_names) == ["id", "image", "label"]
    assert set(splits.train[0]["image"]) == {"bytes", "path"}


def test_folders_of_images_by_flag(image_folder):
    splits = load("image", train_dir=f"{image_folder}/train", test_dir=f"{image_folder}/test")
    assert {name: len(split) for name, split in splits.items()} == {"train": 48, "test": 13}
    assert [named(splits, "test").count(name) for name in splits.labels] == [4, 4, 5]


def test_a_folder_of_images_without_splits(image_folder):
    splits = load("image", dataset_name=f"{image_folder}/train")
    assert {name: len(split) for name, split in splits.items()} == {"train": 48}


def test_a_class_called_as_a_split_is_a_class(tmp_path):
    for name in ("train", "bus"):
        (tmp_path / name).mkdir()
        Pillow.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    assert load("image", dataset_name=str(tmp_path)).labels == ["bus", "train"]


def test_a_class_folder_that_only_the_test_split_has(tmp_path):
    for place in ("train/a", "train/b", "test/c"):
        (tmp_path / place).mkdir(parents=True)
        Pillow.new("RGB", (4, 4)).save(tmp_path / place / "1.png")
    error = refused("image", dataset_name=str(tmp_path))
    assert "the label 'c' does not occur in the training rows" in error.what


def test_a_class_folder_that_the_test_split_lacks(tmp_path):
    for place in ("train/a", "train/b", "test/b"):
        (tmp_path / place).mkdir(parents=True)
        Pillow.new("RGB", (4, 4)).save(tmp_path / place / "1.png")
    splits = load("image", dataset_name=str(tmp_path))
    assert (splits.labels, splits.test["label"][:]) == (["a", "b"], [1])


# In memory


def test_a_dataset_dict_with_class_labels_keeps_names_and_order():
    features = Features({"text": Value("string"), "label": ClassLabel(names=["pos", "neg", "mid"])})
    data = DatasetDict(train=texts([1, 0, 2]).cast(features), test=texts([2]).cast(features))
    splits = load(dataset=data)
    assert splits.labels == ["pos", "neg", "mid"]
    assert (splits.train["label"][:], splits.test["label"][:]) == ([1, 0, 2], [2])


@pytest.mark.parametrize(
    ("given", "standard"), [("Training", "train"), ("valid", "validation"), ("dev", "validation"), ("testing", "test")]
)
def test_splits_of_other_names_are_recognised(given, standard):
    data = {"train": texts([0, 1]), given: texts([0, 1, 1])} if standard != "train" else {given: texts([0, 1, 1])}
    assert len(getattr(load(dataset=DatasetDict(data)), standard)) == 3


def test_rows_in_memory_win_over_named_places(text_files):
    assert len(load(dataset=texts([0, 1]), train_file=text_files["train"]).train) == 2


def test_without_a_training_split_those_there_are_are_named():
    assert refused(dataset=DatasetDict(test=texts([0, 1]))).what == "there is no training split; found test"


def test_a_split_without_rows():
    error = refused(dataset=DatasetDict(train=texts([0, 1]), test=texts([])))
    assert (error.what, error.where) == ("the split has no rows", "the given data set, test split")


@pytest.mark.parametrize("hidden", [[-1, -1], None], ids=["-1", "no column"])
def test_a_test_split_that_hides_its_labels_is_left_out_and_said(hidden, capsys):
    test = texts([-1, -1]) if hidden else Dataset.from_dict({"text": ["a", "b"]})
    splits = load(dataset=DatasetDict(train=texts([0, 1]), test=test))
    assert splits.test is None
    assert splits.labels == ["0", "1"]
    note = "The test split has no labels and is not used."
    assert note in splits.notes
    assert note in capsys.readouterr().out


def test_images_in_memory_keep_their_bytes():
    images = [np.full((4, 5, 3), value, dtype=np.uint8) for value in (0, 255)]
    features = Features({"img": Image(), "label": Value("string")})
    rows = Dataset.from_dict({"img": images, "label": ["dark", "bright"]}, features=features)
    splits = load("image", rows)
    assert splits.labels == ["bright", "dark"]
    assert [cell["bytes"][:4] for cell in splits.train["image"]] == [b"\x89PNG"] * 2


# Limits and the held-out split


def test_limits_take_the_first_rows():
    data = DatasetDict(train=texts([0, 1, 0, 1]), validation=texts([1, 0, 0]), test=texts([0, 0, 1]))
    splits = load(dataset=data, max_train_samples=3, max_eval_samples=2, max_predict_samples=1)
    assert splits.train["text"][:] == ["row 0", "row 1", "row 2"]
    assert splits.validation["text"][:] == ["row 0", "row 1"]
    assert splits.test["text"][:] == ["row 0"]


def test_a_limit_above_the_number_of_rows_takes_all():
    assert len(load(dataset=texts([0, 1]), max_train_samples=100).train) == 2


def test_without_validation_rows_some_are_held_out_and_said(capsys):
    splits = load(dataset=texts([0, 1] * 50), validation_split=0.2)
    assert (len(splits.train), len(splits.validation)) == (80, 20)
    assert splits.class_counts("validation").tolist() == [10, 10]
    assert splits.notes == [
        "No validation split was given: 20 of 100 training rows are held out, stratified by label (seed 42)."
    ]
    assert splits.notes[0] in capsys.readouterr().out


def test_given_validation_rows_are_used_as_they_are():
    splits = load(dataset=DatasetDict(train=texts([0, 1] * 50), validation=texts([1])), validation_split=0.2)
    assert (len(splits.train), len(splits.validation)) == (100, 1)


def test_what_was_found_is_said(capsys):
    load(dataset=texts(["b", "a"]))
    assert "the given data set: text column 'text', label column 'label' with 2 classes." in capsys.readouterr().out


def test_a_file_that_changes_is_read_anew(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("text,label\na,x\n")
    assert read_file(file)["text"][:] == ["a"]
    file.write_text("text,label\nb,x\n")
    assert read_file(file)["text"][:] == ["b"]


def test_columns_that_rows_are_judged_by_come_along(tmp_path):
    file = tmp_path / "rows.csv"
    lines = [f"text {i},{'ab'[i % 2]},{('web', 'book', '')[i % 3]}" for i in range(30)]
    file.write_text("text,label,source\n" + "\n".join(lines) + "\n")
    splits = load_splits(
        DataConfig(train_file=str(file), slice_column=["source"], test_split=0.2), get_task("text-classification")
    )
    for _, split in splits.items():
        numbers = [int(text.split()[1]) for text in split["text"][:]]
        assert split["slice: source"][:] == [("web", "book", "(none)")[i % 3] for i in numbers]
    with pytest.raises(UserError) as caught:
        load_splits(DataConfig(train_file=str(file), slice_column=["sauce"]), get_task("text-classification"))
    assert "there is no column 'sauce'" in caught.value.what


def test_rows_with_labels_that_a_model_knows(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,label,who\none,b,x\ntwo,b,y\n")
    config = DataConfig(train_file=str(file), group_column="who")
    rows = load_labelled(config, get_task("text-classification"), SingleLabel(["a", "b"]))
    assert rows["label"][:] == [1, 1]
    assert rows["group"][:] == ["x", "y"]
    without = load_labelled(
        DataConfig(train_file=str(file), group_column="gone"), get_task("text-classification"), SingleLabel(["a", "b"])
    )
    assert "group" not in without.column_names
    with pytest.raises(UserError) as caught:
        load_labelled(config, get_task("text-classification"), SingleLabel(["a", "c"]))
    assert "'b'" in caught.value.what
    file.write_text("text,label\n")
    with pytest.raises(UserError):
        load_labelled(config, get_task("text-classification"), SingleLabel(["a", "b"]))
