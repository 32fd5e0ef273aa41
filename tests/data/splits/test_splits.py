"""The held-out split: stratified, always the same, disjoint from what trains."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from hf_finetune.config.options import DataConfig
from hf_finetune.data.rows.columns import Columns
from hf_finetune.data.splits.divide import divide
from hf_finetune.data.splits.splits import Splits
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs import SingleLabel


def rows(*counts: int) -> Dataset:
    """As many rows of each class as the counts say, the classes taking turns."""
    labels = np.concatenate([np.full(count, label) for label, count in enumerate(counts)]).astype(int)
    labels = labels[np.random.default_rng(1).permutation(len(labels))]
    return Dataset.from_dict({"id": [str(i) for i in range(len(labels))], "label": labels.tolist()})


def hold_out_validation(train: Dataset, share: float | None, notes: list[str]) -> tuple[Dataset, Dataset | None]:
    given = {"train": train}
    config = DataConfig(validation_split=share)
    splits, _ = divide(given, given, Columns({"text": "text"}, ["label"]), config, SingleLabel(["a", "b", "c"]), notes)
    return splits["train"], splits.get("validation")


def counts(split: Dataset, classes: int) -> list[int]:
    return np.bincount(split["label"], minlength=classes).tolist()


def test_every_class_gives_its_share():
    train, validation = hold_out_validation(rows(100, 40, 10), 0.2, [])
    assert counts(validation, 3) == [20, 8, 2]
    assert counts(train, 3) == [80, 32, 8]


def test_the_two_parts_are_disjoint_and_whole_and_in_the_order_of_the_file():
    data = rows(33, 17)
    train, validation = hold_out_validation(data, 0.1, [])
    kept, out = [int(i) for i in train["id"]], [int(i) for i in validation["id"]]
    assert sorted(kept + out) == list(range(50))
    assert kept == sorted(kept)
    assert out == sorted(out)
    labels = data["label"][:]
    assert validation["label"][:] == [labels[i] for i in out]


def test_the_same_rows_are_held_out_whatever_the_seed_of_the_run():
    first = hold_out_validation(rows(50, 50), 0.1, [])[1]["id"][:]
    np.random.seed(7)
    assert hold_out_validation(rows(50, 50), 0.1, [])[1]["id"][:] == first


def test_what_is_held_out_is_not_simply_the_end_of_the_file():
    out = [int(i) for i in hold_out_validation(rows(50, 50), 0.1, [])[1]["id"]]
    assert out != list(range(90, 100))
    assert out != list(range(10))


def test_a_share_of_nothing_holds_nothing_out():
    data, notes = rows(5, 5), []
    assert hold_out_validation(data, 0, notes) == (data, None)
    assert notes == []


def test_a_small_share_still_holds_a_row_of_each_class_out():
    train, validation = hold_out_validation(rows(10, 10, 10, 10), 0.01, [])
    assert counts(validation, 4) == [1, 1, 1, 1]
    assert counts(train, 4) == [9, 9, 9, 9]


def test_classes_of_one_row_stay_in_training():
    train, validation = hold_out_validation(rows(20, 1, 20), 0.1, [])
    assert counts(train, 3)[1] == 1
    assert counts(validation, 3) == [2, 0, 2]


def test_what_is_held_out_is_said():
    notes: list[str] = []
    hold_out_validation(rows(20, 20), 0.25, notes)
    assert notes == [
        "No validation split was given: 10 of 40 training rows are held out, stratified by label (seed 42)."
    ]


@pytest.mark.parametrize("data", [rows(1, 1), rows(1, 1, 1, 1, 1, 1, 1)], ids=["1+1", "7 x 1"])
def test_too_few_rows_are_refused_with_a_way_out(data):
    with pytest.raises(UserError) as caught:
        hold_out_validation(data, 0.1, [])
    assert "are too few; no validation split can be held out" in caught.value.what
    assert "--validation_split 0" in caught.value.fix


def test_a_large_share_leaves_a_row_of_each_class():
    train, validation = hold_out_validation(rows(5, 5), 0.9, [])
    assert counts(train, 2) == [1, 1]
    assert counts(validation, 2) == [4, 4]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_no_class_loses_all_its_training_rows(share):
    train, _ = hold_out_validation(rows(90, 2, 2, 2, 2, 2), share, [])
    assert min(counts(train, 6)) >= 1


def test_splits_name_those_there_are_and_count_their_classes():
    splits = Splits(rows(3, 1), None, rows(0, 2), SingleLabel(["a", "b", "c"]), "here")
    assert [name for name, _ in splits.items()] == ["train", "test"]
    assert splits.class_counts("train").tolist() == [3, 1, 0]
    assert splits.class_counts("test").tolist() == [0, 2, 0]


def test_left_open_the_share_is_a_tenth_and_a_twentieth_of_many_rows():
    assert len(hold_out_validation(rows(50, 50), None, [])[1]) == 10
    assert len(hold_out_validation(rows(3000, 3000), None, [])[1]) == 300
