"""No split is lost without a word: names that mean the same split are refused, and those that are not used are named."""

from __future__ import annotations

import pytest
from datasets import Dataset, DatasetDict

from hf_finetune.config.options import DataConfig
from hf_finetune.data.load import load_splits
from hf_finetune.data.readers.split_names import find_splits
from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train", "validation", "test"], {"train": "train", "validation": "validation", "test": "test"}),
        (["Training", "DEV"], {"train": "Training", "validation": "DEV"}),
        (
            ["train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"],
            {"train": "train", "validation": "validation_matched", "test": "test_matched"},
        ),
        (["train", "validation", "validation_clean"], {"train": "train", "validation": "validation"}),
        (["train", "test_r1", "test_r2"], {"train": "train"}),
        (["train", "test-other"], {"train": "train", "test": "test-other"}),
        (["train", "unsupervised"], {"train": "train"}),
        (["train_r1"], {}),
    ],
)
def test_splits_by_their_names(names, found):
    notes: list[str] = []
    assert find_splits(names, "data", notes) == found
    for name in set(names) - set(found.values()):
        assert any(repr(name) in note and "not used" in note for note in notes)


@pytest.mark.parametrize("names", [["train", "validation", "dev"], ["train", "val", "valid"], ["train", "Train"]])
def test_two_names_of_one_split_are_refused(names):
    with pytest.raises(UserError, match="are both names of the") as caught:
        find_splits(names, "data", [])
    assert all(repr(name) in caught.value.what for name in names[1:])


def rows(count):
    return Dataset.from_dict({"text": [f"text {i}" for i in range(count)], "label": ["a", "b"] * (count // 2)})


@pytest.mark.parametrize("streaming", [False, True])
def test_the_matched_rows_of_mnli_judge_and_no_training_row_is_held_out(streaming, capsys):
    names = ("validation_matched", "validation_mismatched", "test_matched", "test_mismatched")
    mnli = DatasetDict({"train": rows(40)} | {name: rows(4 + 2 * i) for i, name in enumerate(names)})
    splits = load_splits(DataConfig(streaming=streaming), get_task("text-classification"), mnli)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (40, 4, 8)
    said = capsys.readouterr().out
    assert "The validation split is 'validation_matched' of the given data set." in said
    assert "The splits 'validation_mismatched', 'test_mismatched' of the given data set are not used" in said
    assert "--validation_file or --test_file" in said
    assert sum("not used" in note for note in splits.notes) == 1


@pytest.mark.parametrize("files", [("train.csv", "val.csv", "valid.csv"), ("train.csv", "train.jsonl")])
def test_two_files_of_one_split_are_refused(files, tmp_path):
    for name in files:
        (tmp_path / name).write_text("text,label\none,a\ntwo,b\n")
    with pytest.raises(UserError, match="are both"):
        load_splits(DataConfig(dataset_name=str(tmp_path)), get_task("text-classification"))


def test_the_settings_of_the_caller_stay_as_they_are():
    config = DataConfig(validation_split=0)
    load_splits(config, get_task("text-classification"), rows(40).to_iterable_dataset())
    assert config.streaming is False
