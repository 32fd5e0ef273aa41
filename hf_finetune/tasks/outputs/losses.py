"""Losses over a whole optimiser step, one per kind of label."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.errors import UserError


def class_options(names: list[str], config: Config, balanced: np.ndarray) -> np.ndarray | None:
    """Return the class weights, if requested; print them and the focal factor."""
    weights = print_values("Class weights", names, balanced) if config.run.class_weights == "balanced" else None
    if config.run.focal_gamma:
        say(f"Focal loss with gamma {config.run.focal_gamma:g}.")
    return weights


def refuse_options(config: Config, *, classes: bool) -> None:
    """Refuse options for one class per row; without ``classes``, for labels that are numbers, those for any classes."""
    run, numbers = config.run, "the labels are numbers, which have no classes"
    adjusted = "logits are adjusted where a row has one class"
    for flag, given, what in (
        ("--class_weights", not classes and run.class_weights == "balanced", numbers),
        ("--balanced_sampling", not classes and run.balanced_sampling, numbers),
        ("--focal_gamma", not classes and run.focal_gamma, numbers),
        ("--logit_adjustment", run.logit_adjustment, adjusted if classes else numbers),
        ("--label_smoothing_factor", smoothing(config), "labels are smoothed where a row has one class"),
    ):
        if given:
            raise UserError(what, where=flag, fix="leave the flag out.")


def smoothing(config: Config) -> float:
    """Return the share of the target that is spread over all classes."""
    return float(config.training.get("label_smoothing_factor", 0.0))


def print_values(title: str, names: list[str], values: np.ndarray) -> np.ndarray:
    """Print a value per class, and return the values."""
    say(f"{title}: {', '.join(f'{name} {value:.2f}' for name, value in zip(names, values, strict=True))}.")
    return values


class StepLoss(ABC):
    """A ``compute_loss_func`` of the Trainer: a sum over a batch, divided by the count of the whole optimiser step.

    The count is over all accumulated batches and all processes: a batch of 8 gives the same gradient as 8 accumulated
    batches of 1, and each row of a short last batch has the same weight as any other.
    """

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of a batch."""
        total = self.total(outputs["logits"].float(), labels)
        return total / (self.count(labels) if num_items_in_batch is None else num_items_in_batch)

    @abstractmethod
    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the sum over the batch; ``logits`` are of shape (rows, labels)."""

    def count(self, labels: torch.Tensor) -> int:
        """Return what the Trainer counts of a batch: all labels of its rows."""
        return labels.numel()


def _tensor(values: Any, like: torch.Tensor) -> torch.Tensor | None:
    return None if values is None else torch.as_tensor(values, dtype=torch.float32, device=like.device)


@dataclass
class RegressionLoss(StepLoss):
    """Mean squared error of standardised numbers; ``labels`` are in the user's units, shape (rows, targets)."""

    mean: list[float]  # of each target over the training rows
    std: list[float]

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        wanted = (labels.float() - _tensor(self.mean, logits)) / _tensor(self.std, logits)
        return functional.mse_loss(logits, wanted, reduction="sum")


@dataclass
class MultiLabelLoss(StepLoss):
    """Binary cross-entropy, averaged over rows and classes; ``labels`` are 0.0 and 1.0, shape (rows, classes)."""

    weights: np.ndarray | None = None  # factor for the rows of a class, shape (classes,)
    focal_gamma: float = 0.0  # terms are multiplied by (1 - p)^gamma, p the probability of the truth (arXiv 1708.02002)

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        weights, labels = _tensor(self.weights, logits), labels.float()
        each = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights, reduction="none")
        if self.focal_gamma:
            # 1 - p, computed from the logit for less rounding error.
            each = each * focal_factor(torch.sigmoid(torch.where(labels > 0.5, -logits, logits)), self.focal_gamma)
        return each.sum()


@dataclass
class ClassificationLoss(StepLoss):
    """Cross-entropy; ``labels`` are ids, shape (rows,), or after mixup probabilities, shape (rows, classes)."""

    class_weights: np.ndarray | None = None  # shape (classes,), with mean 1 over the training rows
    label_smoothing: float = 0.0  # share of the target that is spread over all classes (arXiv 1512.00567)
    focal_gamma: float = 0.0  # as in MultiLabelLoss, for each class
    logit_offsets: np.ndarray | None = None  # added to the logits, shape (classes,)

    def count(self, labels: torch.Tensor) -> int:
        """Return the rows, not the sum of their weights, which differs between batches."""
        return len(labels)

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        weights, offsets = _tensor(self.class_weights, logits), _tensor(self.logit_offsets, logits)
        if offsets is not None:
            logits = logits + offsets
        if not self.focal_gamma:
            options = {"weight": weights, "label_smoothing": self.label_smoothing, "reduction": "sum"}
            return functional.cross_entropy(logits, labels, **options)
        # Over the rows and, for smoothed or mixed targets, over their classes as in cross-entropy.
        classes = logits.shape[1]
        wanted = labels if labels.ndim == 2 else functional.one_hot(labels, classes)
        wanted = wanted.float() * (1 - self.label_smoothing) + self.label_smoothing / classes
        logs = functional.log_softmax(logits, dim=1)
        terms = wanted * -logs * focal_factor(-torch.expm1(logs), self.focal_gamma)
        return (terms if weights is None else terms * weights).sum()


def focal_factor(wrong: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return ``wrong ** gamma`` with a finite gradient at 0, also for gamma below 1."""
    return wrong.clamp_min(1e-6) ** gamma


def logit_offsets(counts: np.ndarray, tau: float) -> np.ndarray:
    """Return ``tau * log(share of the class)``, to add to the logits in training only (arXiv 2007.07314).

    A frequent class then needs a larger logit than a rare one for the same loss; without the offsets, at prediction, the
    model answers as if classes were equally frequent. A class without rows counts as having one. ``tau`` 1 minimises the
    balanced error; smaller values are a compromise.
    """
    counts = np.maximum(counts, 1)
    return tau * np.log(counts / counts.sum())


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """Return inverse class frequencies with mean 1 over the rows, shape (classes,): ``rows / (classes * count)``, 0 if empty."""
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights


def prior_logits(counts: np.ndarray, rows: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the log-odds of each class among the training rows, the initial bias of a multi-label head.

    A head with bias 0 starts with probability 0.5 for every class, and spends its first hundreds of steps unlearning that
    at the expense of rare classes (arXiv 1708.02002, section 3.3). ``weights`` are those of the loss.
    """
    odds = (counts + 1) / (rows - counts + 1)
    return np.log(odds if weights is None else odds * weights)


def positive_weights(counts: np.ndarray, rows: int) -> np.ndarray:
    """Return rows without a class per row with it, at most 100, shape (classes,): the factor of the latter in the loss."""
    return np.clip((rows - counts) / np.maximum(counts, 1), 1 / 100, 100)
