"""Texts to check a model with: a sample of the run's rows as inputs of a pipeline, and random tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_finetune.tasks.inputs.text.facts import input_facts
from hf_finetune.tasks.inputs.text.long_texts import TRUNCATE, long_text_of
from hf_finetune.tasks.inputs.text.row_input import columns_of


def call_options(processor: Any) -> dict[str, Any]:
    return {"truncation": True}


def odd_rows(rows: Any) -> list[int]:
    """Return the longest and the shortest text."""
    columns = [rows[name][:] for name in columns_of(rows)]
    lengths = [sum(map(len, texts)) for texts in zip(*columns, strict=True)]
    return [int(np.argmax(lengths)), int(np.argmin(lengths))]


def keep_row(folder: Path, row: int, cells: dict[str, Any], processor: Any) -> dict[str, Any] | str:
    texts = {name: cells[name] for name in columns_of(cells)}
    if long_text_of(processor) != TRUNCATE:
        limit = processor.model_max_length
        if len(processor(**texts, truncation=False, verbose=False)["input_ids"]) > limit:
            return f"longer than {limit} tokens, which a pipeline truncates and this run did not"
    facts = input_facts(processor(**texts, truncation=True))
    return {"input": texts if "text_pair" in texts else texts["text"], "facts": facts}


def pipeline_input(kept: Any, folder: Path) -> Any:
    """Return the text, or the dictionary of a pair."""
    return kept


def probe(model: Any, processor: Any) -> dict[str, torch.Tensor]:
    """Return random tokens of shape (4, tokens)."""
    length = min(32, getattr(model.config, "max_position_embeddings", 64) // 2)
    tokens = torch.as_tensor(np.random.default_rng(0).integers(0, model.config.vocab_size, size=(4, length)))
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def longest(batch: dict[str, torch.Tensor], processor: Any) -> dict[str, torch.Tensor]:
    """Return the text repeated up to the tokenizer's maximum length, which test rows rarely reach."""
    tokens = processor.model_max_length
    times = -(-tokens // next(iter(batch.values())).shape[1])
    return {name: values.repeat(1, times)[:, :tokens] for name, values in batch.items()}
