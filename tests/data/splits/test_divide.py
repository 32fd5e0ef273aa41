"""From a file to its splits: by groups, by time, by folds, with a test split, and as another run had them."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hf_finetune.config.options import DataConfig
from hf_finetune.data import Splits, load_splits
from hf_finetune.data.splits.split_file import write_split_file
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task

HEADER = ("text", "label", "author", "day")


def made(count: int = 60, seed: int = 0) -> list[tuple[str, str, str, str]]:
    random = np.random.default_rng(seed)
    days = random.permutation(count)
    return [
        (
            f"text {i}",
            ("good", "bad")[i % 2],
            f"author {random.integers(0, 12)}",
            f"2024-{1 + d // 28:02d}-{1 + d % 28:02d}",
        )
        for i, d in enumerate(days)
    ]


@pytest.fixture
def write(tmp_path):
    def write(rows, name="rows.csv", header=HEADER) -> str:
        with Path(tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return str(tmp_path / name)

    return write


def load(file: str, **options) -> Splits:
    return load_splits(DataConfig(train_file=file, text_column="text", **options), get_task("text-classification"))


def ids(splits: Splits) -> dict[str, list[str]]:
    return {name: split["id"][:] for name, split in splits.items()}


def error(file: str, **options) -> UserError:
    with pytest.raises(UserError) as caught:
        load(file, **options)
    return caught.value


# A test split out of one file


def test_the_test_split_is_taken_before_the_validation_split(write):
    splits = load(write(made()), test_split=0.2, validation_split=0.25)
    assert {name: len(split) for name, split in splits.items()} == {"train": 36, "validation": 12, "test": 12}
    assert splits.class_counts("test").tolist() == [6, 6]
    assert sorted(itertools.chain(*ids(splits).values()), key=int) == [str(i) for i in range(60)]
    assert splits.notes == [
        "No test split was given: 12 of 60 training rows are held out for testing, stratified by label (seed 42).",
        "No validation split was given: 12 of 48 training rows are held out, stratified by label (seed 42).",
    ]


def test_a_given_test_split_is_kept(write):
    config = DataConfig(
        train_file=write(made()), test_file=write(made(10, 1), "test.csv"), text_column="text", test_split=0.2
    )
    splits = load_splits(config, get_task("text-classification"))
    assert len(splits.test) == 10
    assert "A test split was given: --test_split is not used." in splits.notes


# Groups


def test_no_group_is_on_two_sides(write):
    splits = load(write(made()), group_column="author", test_split=0.2)
    groups = {name: set(split["group"][:]) for name, split in splits.items()}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]
    assert not groups["validation"] & groups["test"]
    assert (
        "of 12 groups of column 'author', stratified by label as far as whole groups allow (seed 42)."
        in splits.notes[0]
    )
    assert sum(map(len, ids(splits).values())) == 60


def test_the_group_stands_beside_the_row(write):
    rows = made()
    splits = load(write(rows), group_column="author")
    for split in (splits.train, splits.validation):
        assert split["group"][:] == [rows[int(i)][2] for i in split["id"][:]]


def test_without_groups_there_is_no_such_column(write):
    assert "group" not in load(write(made())).train.column_names


def test_the_column_of_groups_is_not_taken_for_the_text(write):
    rows = [(f"text {i}", "ab"[i % 2], f"author {i % 7}") for i in range(40)]
    file = write(rows, header=("words", "label", "author"))
    splits = load_splits(DataConfig(train_file=file, group_column="author"), get_task("text-classification"))
    assert splits.train["text"][0].startswith("text")


def test_groups_that_a_given_split_shares_with_training_are_named(write, capsys):
    test = [("x", "good", f"author {name}", "2024-01-01") for name in (3, 4, 99)]
    config = DataConfig(
        train_file=write(made()),
        test_file=write(test, "test.csv"),
        text_column="text",
        group_column="author",
        validation_split=0,
    )
    note = "2 groups of column 'author' are in the training and the test rows: author 3, author 4."
    assert note in load_splits(config, get_task("text-classification")).notes
    assert f"Warning: {note}" in capsys.readouterr().out


def test_a_row_without_a_group_is_refused(write):
    rows = made()
    rows[6] = (*rows[6][:2], "", rows[6][3])
    found = error(write(rows), group_column="author")
    assert found.what == "1 of 60 rows have no group (rows 7)"
    assert found.where == "train split, column 'author'"


def test_one_group_cannot_be_divided(write):
    rows = [(text, label, "one", day) for text, label, _, day in made()]
    found = error(write(rows), group_column="author")
    assert found.what.startswith("every group of the training rows is needed there")
    assert "--validation_split 0" in found.fix


def test_an_unknown_column_is_refused_with_the_nearest(write):
    assert "did you mean --group_column author?" in error(write(made()), group_column="auther").fix
    assert "did you mean --time_column day?" in error(write(made()), time_column="dya").fix


# Time


def test_the_latest_rows_are_held_out(write):
    rows = made()
    splits = load(write(rows), time_column="day", test_split=0.2, validation_split=0.25)
    days = {name: [rows[int(i)][3] for i in part] for name, part in ids(splits).items()}
    assert max(days["train"]) < min(days["validation"])
    assert max(days["validation"]) < min(days["test"])
    assert {name: len(part) for name, part in days.items()} == {"train": 36, "validation": 12, "test": 12}
    assert splits.notes[0].endswith(f"the latest by column 'day', from {min(days['test'])} on.")


@pytest.mark.parametrize(
    ("cells", "last"),
    [
        ([str(1_700_000_000 + 7 * i) for i in range(40)], "1700000252"),
        ([f"{i / 8}" for i in range(40)], "4.5"),
        ([f"2024-05-01T10:{i:02d}:00+02:00" for i in range(40)], "2024-05-01T08:36:00"),
        ([f"2024-05-01 10:{i:02d}" for i in range(40)], "2024-05-01T10:36:00"),
    ],
)
def test_iso_times_and_unix_numbers_are_read(cells, last, write):
    rows = [("x", "ab"[i % 2], cell) for i, cell in enumerate(cells)]
    splits = load(write(rows, header=("text", "label", "when")), time_column="when")
    assert splits.validation["id"][:] == ["36", "37", "38", "39"]
    assert splits.notes == [
        f"No validation split was given: 4 of 40 training rows are held out, the latest by column 'when', from {last} on."
    ]


@pytest.mark.parametrize(
    ("bad", "others"),
    [("yesterday", "2024-05-01"), ("2024-13-01", "2024-05-02"), ("", "2024-05-01"), ("soon", "17"), ("", "3")],
)
def test_a_cell_that_is_no_time_is_named(bad, others, write):
    rows = [("x", "ab"[i % 2], bad if i == 11 else others) for i in range(40)]
    found = error(write(rows, header=("text", "label", "when")), time_column="when")
    assert found.what.startswith(f"row 12 holds {bad!r}; expected an ISO date such as 2024-01-31, or a number")
    assert found.where == "train split, column 'when'"


def test_rows_of_one_moment_cannot_be_divided(write):
    rows = [("x", "ab"[i % 2], "2024-05-01") for i in range(40)]
    found = error(write(rows, header=("text", "label", "when")), time_column="when")
    assert found.what == "all 40 training rows are of the same moment; no validation split can be held out"


# Folds


@pytest.mark.parametrize("group", [None, "author"])
def test_every_row_is_tested_once_over_all_folds(group, write):
    file, tested = write(made()), []
    for fold in range(1, 6):
        splits = load(file, num_folds=5, fold=fold, group_column=group)
        assert sum(map(len, ids(splits).values())) == 60
        tested += splits.test["id"][:]
        if group:
            assert not set(splits.test["group"][:]) & set(splits.train["group"][:])
    assert sorted(tested, key=int) == [str(i) for i in range(60)]


def test_a_fold_is_said(write):
    splits = load(write(made()), num_folds=5, fold=2)
    assert splits.notes[0] == "Fold 2 of 5 is the test split: 12 of 60 rows, stratified by label (seed 42)."


# Other kinds of label


@pytest.mark.parametrize("flags", [{}, {"group_column": "author"}, {"time_column": "day"}], ids=str)
@pytest.mark.parametrize("kind", ["multi", "regression"])
def test_several_classes_and_numbers_are_divided_in_every_way(kind, flags, write):
    labels = {"multi": lambda i: f'["a{i % 3}", "b"]', "regression": lambda i: f"{i / 7:.3f}"}[kind]
    rows = [(text, labels(i), author, day) for i, (text, _, author, day) in enumerate(made())]
    splits = load(write(rows), test_split=0.2, **flags)
    sizes = {name: len(split) for name, split in splits.items()}
    assert sum(sizes.values()) == 60
    assert 8 <= sizes["test"] <= 16
    assert 3 <= sizes["validation"] <= 10
    folds = [
        load(write(rows), num_folds=3, fold=i, group_column=flags.get("group_column")).test["id"][:] for i in (1, 2, 3)
    ]
    assert sorted(itertools.chain(*folds), key=int) == [str(i) for i in range(60)]


# The file of splits


def test_the_file_says_where_every_row_went_and_gives_it_back(write, tmp_path):
    file = write(made())
    first = load(file, group_column="author", test_split=0.2)
    write_split_file(tmp_path, first.split_table)
    frame = pd.read_parquet(tmp_path / "splits.parquet")
    assert list(frame.columns) == ["id", "row", "source", "split", "group"]
    assert frame["row"].tolist() == list(range(60))
    assert set(frame["source"]) == {"train"}
    for name, part in ids(first).items():
        assert frame.loc[frame["split"] == name, "id"].tolist() == part
    assert frame["group"].tolist() == [row[2] for row in made()]
    for given in (tmp_path, tmp_path / "splits.parquet"):
        again = load(file, splits_file=str(given))
        assert ids(again) == ids(first)
        assert again.notes[0].startswith("The splits are those of ")


def test_splits_of_another_making_are_given_back_too(write, tmp_path):
    """Rows of the validation file may have been put into training by hand: they stand behind those of the training file."""
    files = {"train_file": write(made()), "validation_file": write(made(10, 1), "validation.csv")}
    config = DataConfig(**files, text_column="text")
    frame = load_splits(config, get_task("text-classification")).split_table.to_pandas()
    frame.loc[60:64, "split"] = "train"
    frame.loc[0:3, "split"] = "unused"
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "mine.parquet")
    config = DataConfig(**files, text_column="text", splits_file=str(tmp_path / "mine.parquet"))
    splits = load_splits(config, get_task("text-classification"))
    assert splits.train["id"][:] == [str(i) for i in range(4, 60)] + ["0", "1", "2", "3", "4"]
    assert splits.validation["id"][:] == ["5", "6", "7", "8", "9"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.iloc[:-1], "the file has 59 rows of the train split, the data 60"),
        (
            lambda f: f.assign(id=f["id"].where(f["row"] != 4, "x")),
            "row 5 of the train split has the id 'x' in the file and '4' in the data",
        ),
        (lambda f: f.assign(source="test"), "the file has a split 'test' that the data has not"),
        (lambda f: f.assign(split="holdout"), "the file names a split 'holdout'"),
        (lambda f: f.assign(split="test"), "the file has no training row"),
        (lambda f: f.drop(columns="row"), "the file has no column 'row'"),
        (lambda f: f.assign(row=0), "the rows of the train split are not numbered from 0 on"),
    ],
    ids=["fewer rows", "other id", "other source", "other split", "no training", "no column", "not numbered"],
)
def test_a_file_of_other_rows_is_refused(change, words, write, tmp_path):
    file = write(made())
    change(load(file).split_table.to_pandas()).to_parquet(tmp_path / "s.parquet")
    found = error(file, splits_file=str(tmp_path / "s.parquet"))
    assert found.what == words
    assert found.where.startswith("--splits_file")


def test_what_is_no_file_of_splits_is_refused(write, tmp_path):
    file = write(made())
    assert error(file, splits_file=str(tmp_path / "none.parquet")).what == "the file does not exist"
    assert error(file, splits_file=file).what.startswith("the file cannot be read")
