"""Rows in which there is nothing to find are read in one of three epochs if they are the majority."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from alone import training_alone as alone
from datasets import Dataset

from hf_finetune import fine_tune
from hf_finetune.config import parse
from hf_finetune.data import Splits
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs import SingleLabel
from hf_finetune.tasks.outputs.entities import Tags
from hf_finetune.training.sampling import rows_of_epoch, seldom_read

TAGS = Tags(["O", "B-x", "I-x"])


def found(output, labels, *flags):
    rows = Dataset.from_dict({"id": [str(number) for number in range(len(labels))], "label": labels})
    config = parse(["--model_name_or_path", "m", "--train_file", "a.csv", *flags])
    return seldom_read(config, Splits(rows, None, None, output, "here"))


@pytest.mark.parametrize(
    ("empty", "flags", "every"),
    [(3, [], 3), (2, [], None), (2, ["--empty_rows_every", "2"], 2), (3, ["--empty_rows_every", "1"], None),
     (0, ["--empty_rows_every", "2"], None), (3, ["--balanced_sampling"], None)],
)  # fmt: skip
def test_the_majority_of_empty_rows_is_read_seldom(empty, flags, every):
    answer = found(TAGS, [[]] * empty + [[[0, 1, 0]]] * 2, *flags)
    assert (answer and answer[1]) == every
    if answer:
        assert answer[0].tolist() == [True] * empty + [False] * 2


@pytest.mark.parametrize(("empty", "every", "rows"), [(4, 3, 2 + 2), (3, 3, 2 + 1), (4, 1, 2 + 4)])
def test_the_rows_of_an_epoch_are_counted(empty, every, rows):
    split = Dataset.from_dict({"id": list("abcdef")[: 2 + empty]})
    mask = np.arange(2 + empty) < empty
    assert rows_of_epoch(Splits(split, None, None, TAGS, "here"), (mask, every)) == rows
    assert rows_of_epoch(Splits(split, None, None, TAGS, "here"), None) == 2 + empty


def test_labels_that_are_never_empty_refuse_the_flag():
    assert found(SingleLabel(["a", "b"]), [0, 0, 0, 1]) is None
    with pytest.raises(UserError) as caught:
        found(SingleLabel(["a", "b"]), [0, 0, 0, 1], "--empty_rows_every", "3")
    assert caught.value.where == "--empty_rows_every"


def test_an_epoch_has_a_third_of_the_windows_of_empty_rows(checkpoints, entity_files, tmp_path, capsys):
    full = [json.loads(line) for line in Path(entity_files["words"]["train_file"]).read_text().splitlines()]
    others = sum(set(row["ner_tags"]) != {"O"} for row in full)
    added = [{"id": f"empty {n}", "tokens": ["good"] * 80, "ner_tags": ["O"] * 80} for n in range(len(full))]
    train = tmp_path / "train.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in full + added))
    with alone():
        fine_tune(
            "token-classification",
            model_name_or_path=checkpoints("bert"),
            output_dir=tmp_path / "run",
            per_device_train_batch_size=4,
            num_train_epochs=2,
            bf16=False,
            **entity_files["words"] | {"train_file": str(train)},
        )
    empty = len(full) - others + len(added)
    said = " ".join(capsys.readouterr().out.split())
    assert f"in {empty} of {2 * len(full)} training rows there is nothing to find; each is read in one of 3" in said
    windows = len(full) - others + 2 * len(added)
    steps = max(each["step"] for each in json.loads((tmp_path / "run" / "history.json").read_text()))
    assert steps == 2 * math.ceil((others + math.ceil(windows / 3)) / 4)
