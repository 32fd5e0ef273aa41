"""Texts become token ids once: the next run with the same rows and the same tokenizer reads them."""

from __future__ import annotations

import pytest

from hf_finetune.config.options import DataConfig
from hf_finetune.data import load_splits
from hf_finetune.tasks import get_task
from hf_finetune.tasks.inputs.text import encoding as task


@pytest.fixture
def counted(monkeypatch):
    """Number of rows that any tokenizer has read."""
    from transformers import PreTrainedTokenizerFast

    rows = []
    original = PreTrainedTokenizerFast.__call__

    def call(self, text, **options):
        rows.append(len(text))
        return original(self, text, **options)

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", call)
    return rows


@pytest.fixture
def encoded(checkpoints, text_files, tmp_path):
    """Encode the training rows as a run of its own does: rows and tokenizer are loaded anew."""
    import csv

    from conftest import make_texts

    path = tmp_path / "train.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *make_texts(40, seed=len(str(tmp_path)))])

    def encode(max_length=64, processor=None):
        splits = load_splits(
            DataConfig(train_file=str(path), validation_split=0.0), get_task("text-classification"), None
        )
        tokenizer = processor or task.load_processor(checkpoints("bert"))
        tokenizer.model_max_length = max_length
        return task.encode(splits.train, tokenizer)

    return encode


def test_a_second_run_reads_no_text(encoded, counted):
    first = encoded()
    assert sum(counted) == 40
    assert encoded()[:] == first[:]
    assert sum(counted) == 40


def test_a_tokenizer_that_was_used_in_between_is_still_the_same(encoded, counted, checkpoints):
    tokenizer = task.load_processor(checkpoints("bert"))
    first = encoded(processor=tokenizer)
    tokenizer(["good film"], padding="max_length", truncation=True, max_length=5)
    counted.clear()
    assert encoded(processor=tokenizer)[:] == first[:]
    assert counted == []


def test_another_length_or_vocabulary_is_encoded_anew(encoded, counted, checkpoints):
    whole = encoded()
    cut = encoded(max_length=5)
    assert max(whole["length"]) > max(cut["length"]) == 5
    grown = task.load_processor(checkpoints("bert"))
    grown.add_tokens(["film was"])
    encoded(processor=grown)
    assert sum(counted) == 120
