"""The loss of a tag for each word."""

from __future__ import annotations

import torch

from hf_finetune.tasks.outputs.losses import ClassificationLoss


class TagLoss(ClassificationLoss):
    """Cross-entropy of words; ``logits`` are (rows, tokens, tags), ``labels`` (rows, tokens), -100 for tokens without tag."""

    def count(self, labels: torch.Tensor) -> int:
        """Return the tagged words."""
        return int((labels >= 0).sum())

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        tagged = labels >= 0
        return super().total(logits[tagged], labels[tagged])
