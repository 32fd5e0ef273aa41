"""Losses over a whole optimiser step, one for each kind of label."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.problem import MULTI, REGRESSION, SINGLE
from hf_finetune.errors import UserError
from hf_finetune.evaluation.targets import Regression, Target, make_target


def training_target(splits: Splits) -> Target:
    """The kind of label while the model trains: numbers are standardised, so that rates suit every unit.

    Raises:
        UserError: a number is the same in every training row.
    """
    target = make_target(splits.problem, splits.labels)
    if isinstance(target, Regression):
        labels = np.asarray(splits.train["label"][:])
        target.mean, target.std = labels.mean(axis=0).tolist(), labels.std(axis=0).tolist()
        constant = [name for name, std in zip(splits.labels, target.std, strict=True) if std == 0]
        if constant:
            raise UserError(
                f"all training rows hold {target.mean[splits.labels.index(constant[0])]:g}: there is nothing to learn",
                where=f"column {constant[0]!r}",
                fix="name another column with --label_column or --label_columns.",
            )
    return target


def make_loss(config: Config, splits: Splits, target: Target) -> Any:
    """The Trainer's ``compute_loss_func`` for the kind of label.

    Raises:
        UserError: an option that this kind of label does not have.
    """
    balanced = config.run.class_weights == "balanced"
    smoothing = float(config.training.get("label_smoothing_factor", 0.0))
    if splits.problem == REGRESSION and balanced:
        raise UserError("numbers have no classes to weigh", where="--class_weights", fix="leave the flag out.")
    if splits.problem != SINGLE and smoothing:
        raise UserError(
            "labels are smoothed where a row has one class", where="--label_smoothing_factor", fix="leave the flag out."
        )
    if isinstance(target, Regression):
        return RegressionLoss(target.mean, target.std)
    weights = None
    if balanced:
        counts = splits.class_counts("train")
        weights = positive_weights(counts, len(splits.train)) if splits.problem == MULTI else balanced_weights(counts)
        say(f"Class weights: {', '.join(f'{n} {w:.2f}' for n, w in zip(splits.labels, weights, strict=True))}.")
    return MultiLabelLoss(weights) if splits.problem == MULTI else ClassificationLoss(weights, smoothing)


class MultiLabelLoss:
    """Binary cross-entropy, averaged over the rows and classes of a whole optimiser step.

    Args:
        positive_weights: factor of the rows that have a class, shape (classes,).
    """

    def __init__(self, positive_weights: np.ndarray | None = None) -> None:
        self.weights = None if positive_weights is None else torch.as_tensor(positive_weights, dtype=torch.float32)

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Loss of a batch; ``labels`` are 0.0 and 1.0, shape (rows, classes), of which the Trainer counts every one."""
        logits = outputs["logits"].float()
        weights = None if self.weights is None else self.weights.to(logits.device)
        total = functional.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=weights, reduction="sum")
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


class RegressionLoss:
    """Mean squared error of standardised numbers, averaged over the rows and targets of a whole optimiser step.

    Args:
        mean: of each target over the training rows.
        std: likewise.
    """

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Loss of a batch; ``labels`` are numbers in the user's units, shape (rows, targets)."""
        logits = outputs["logits"].float()
        wanted = (labels.float() - self.mean.to(logits.device)) / self.std.to(logits.device)
        total = functional.mse_loss(logits, wanted, reduction="sum")
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


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


def positive_weights(counts: np.ndarray, rows: int) -> np.ndarray:
    """How many rows lack a class for one that has it, at most 100: the factor of binary cross-entropy on those that do.

    Args:
        counts: training rows of each class, shape (classes,).
        rows: number of training rows.
    """
    return np.clip((rows - counts) / np.maximum(counts, 1), 1 / 100, 100)
