"""Token ids that try a model: random ones, and ones as long as the model reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def probe(model: Any, processor: Any) -> dict[str, torch.Tensor]:
    """Return inputs that mean nothing, but reach every weight: random tokens of shape (4, tokens)."""
    length = min(32, getattr(model.config, "max_position_embeddings", 64) // 2)
    tokens = torch.as_tensor(np.random.default_rng(0).integers(0, model.config.vocab_size, size=(4, length)))
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def longest(batch: dict[str, torch.Tensor], processor: Any) -> dict[str, torch.Tensor]:
    """Return a text repeated until it is as long as the model reads: test rows are rarely that long.

    Args:
        batch: inputs of one row.
        processor: the tokenizer, which knows how long that is.
    """
    tokens = processor.model_max_length
    times = -(-tokens // next(iter(batch.values())).shape[1])
    return {name: values.repeat(1, times)[:, :tokens] for name, values in batch.items()}
