"""Cross-entropy over a whole optimiser step, with class weights and label smoothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional


class ClassificationLoss:
    """The Trainer's ``compute_loss_func`` for one label a row.

    The sum over the rows is divided by the number of rows in the whole step, over all accumulated batches and all
    processes: a batch of 8 gives the same gradient as 8 accumulated batches of 1, and a short last batch is not weighed
    more than the others.

    Args:
        class_weights: factor of each class, shape (classes,); they should average to 1 over the training rows.
        label_smoothing: share of the target that is spread over all classes (arXiv 1512.00567).
    """

    def __init__(self, class_weights: np.ndarray | None = None, label_smoothing: float = 0.0) -> None:
        self.class_weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.label_smoothing = label_smoothing

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Loss of a batch; ``labels`` are ids of shape (rows,) or, after mixup, probabilities of shape (rows, classes)."""
        logits = outputs["logits"].float()
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        # Divided by the rows and not by the sum of their weights, which differs from batch to batch.
        total = functional.cross_entropy(
            logits, labels, weight=weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """Inverse class frequencies that average to 1 over the rows: ``rows / (classes * count)``, 0 for an empty class.

    Args:
        counts: training rows of each class, shape (classes,).
    """
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights
