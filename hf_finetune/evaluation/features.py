"""Features for a linear probe: the inputs of the last layer of the head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from hf_finetune.activations import CachedRows
from hf_finetune.evaluation.prediction.forward import predict_rows
from hf_finetune.models import logit_layer


def head_inputs(model: nn.Module, width: int, kept: CachedRows, split: str, batch_size: int) -> np.ndarray | None:
    """Compute the inputs of the layer that gives the logits, in any number of processes.

    Args:
        model: a classifier.
        width: number of its logits.
        kept: encoded rows, or activations of frozen stages.
        split: name of the split.
        batch_size: rows per forward pass.

    Returns:
        float32 array of shape (rows, features); None if the layer is not linear.
    """
    layer = logit_layer(model, width)
    if not isinstance(layer, nn.Linear):
        return None
    with _without_layer(model, layer), kept.replaying():
        return predict_rows(model, kept.rows[split], kept.collate, batch_size)


@contextmanager
def _without_layer(model: nn.Module, layer: nn.Module) -> Iterator[None]:
    """Replace a layer by the identity, so that the model returns its inputs as logits."""
    name = next(name for name, module in model.named_modules() if module is layer)
    parent: Any = model.get_submodule(name.rpartition(".")[0])
    parent._modules[name.rpartition(".")[2]] = nn.Identity()
    try:
        yield
    finally:
        parent._modules[name.rpartition(".")[2]] = layer
