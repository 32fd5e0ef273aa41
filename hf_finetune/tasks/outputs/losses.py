"""Losses over a whole optimiser step, one per kind of label."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.errors import UserError


def single_label_loss(names: list[str], config: Config, splits: Splits) -> ClassificationLoss:
    """Return cross-entropy for one class per row with the requested options, and print what they do."""
    run, counts, offsets = config.run, splits.class_counts("train"), None
    weights = _said("Class weights", names, balanced_weights(counts)) if run.class_weights == "balanced" else None
    if run.focal_gamma:
        say(f"Focal loss with gamma {run.focal_gamma:g}.")
    if run.logit_adjustment:
        title = f"Logit adjustment in training, tau {run.logit_adjustment:g}"
        offsets = _said(title, names, logit_offsets(counts, run.logit_adjustment))
    smoothing = float(config.training.get("label_smoothing_factor", 0.0))
    return ClassificationLoss(weights, smoothing, run.focal_gamma, offsets)


def multi_label_loss(names: list[str], config: Config, splits: Splits) -> MultiLabelLoss:
    """Return binary cross-entropy for several classes per row with the requested options, and print what they do.

    Raises:
        UserError: an option for one class per row.
    """
    refuse_one_class_options(config)
    run, weights = config.run, None
    if run.class_weights == "balanced":
        weights = _said("Class weights", names, positive_weights(splits.class_counts("train"), len(splits.train)))
    if run.focal_gamma:
        say(f"Focal loss with gamma {run.focal_gamma:g}.")
    return MultiLabelLoss(weights, run.focal_gamma)


def refuse_class_options(config: Config) -> None:
    """Refuse options for classes, for labels that are numbers."""
    run = config.run
    asked = {
        "--class_weights": run.class_weights == "balanced",
        "--balanced_sampling": run.balanced_sampling,
        "--focal_gamma": run.focal_gamma,
        "--logit_adjustment": run.logit_adjustment,
    }
    for flag in (flag for flag, value in asked.items() if value):
        raise UserError("the labels are numbers, which have no classes", where=flag, fix="leave the flag out.")
    refuse_one_class_options(config)


def refuse_one_class_options(config: Config) -> None:
    """Refuse options for one class per row."""
    for flag, value, what in (
        ("--label_smoothing_factor", float(config.training.get("label_smoothing_factor", 0.0)), "labels are smoothed"),
        ("--logit_adjustment", config.run.logit_adjustment, "logits are adjusted"),
    ):
        if value:
            raise UserError(f"{what} where a row has one class", where=flag, fix="leave the flag out.")


def _said(title: str, names: list[str], values: np.ndarray) -> np.ndarray:
    say(f"{title}: {', '.join(f'{name} {value:.2f}' for name, value in zip(names, values, strict=True))}.")
    return values


class MultiLabelLoss:
    """Binary cross-entropy, averaged over the rows and classes of a whole optimiser step.

    Args:
        positive_weights: factor for the rows of a class, shape (classes,).
        focal_gamma: each term is multiplied by (1 - p)^gamma, with p the probability of the truth (arXiv 1708.02002).
    """

    def __init__(self, positive_weights: np.ndarray | None = None, focal_gamma: float = 0.0) -> None:
        self.focal_gamma = focal_gamma
        self.weights = None if positive_weights is None else torch.as_tensor(positive_weights, dtype=torch.float32)

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of a batch; ``labels`` are 0.0 and 1.0, shape (rows, classes), all counted by the Trainer."""
        logits = outputs["logits"].float()
        weights = None if self.weights is None else self.weights.to(logits.device)
        labels = labels.float()
        each = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights, reduction="none")
        if self.focal_gamma:
            # 1 - p, computed from the logit for less rounding error.
            each = each * focal_factor(torch.sigmoid(torch.where(labels > 0.5, -logits, logits)), self.focal_gamma)
        total = each.sum()
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


class RegressionLoss:
    """Mean squared error of standardised numbers, averaged over the rows and targets of a whole optimiser step.

    ``mean`` and ``std`` are those of each target over the training rows.
    """

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of a batch; ``labels`` are numbers in the user's units, shape (rows, targets)."""
        logits = outputs["logits"].float()
        wanted = (labels.float() - self.mean.to(logits.device)) / self.std.to(logits.device)
        total = functional.mse_loss(logits, wanted, reduction="sum")
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


class ClassificationLoss:
    """The Trainer's ``compute_loss_func`` for one class per row.

    The sum over the rows is divided by the number of rows in the whole step, over all accumulated batches and all
    processes: a batch of 8 gives the same gradient as 8 accumulated batches of 1, and each row of a short last batch has
    the same weight as any other.

    Args:
        class_weights: factor of each class, shape (classes,); they should average to 1 over the training rows.
        label_smoothing: share of the target that is spread over all classes (arXiv 1512.00567).
        focal_gamma: the term of each class is multiplied by (1 - p)^gamma, with p its probability (arXiv 1708.02002).
        logit_offsets: added to the logits, shape (classes,), see :func:`logit_offsets`.
    """

    def __init__(
        self,
        class_weights: np.ndarray | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        logit_offsets: np.ndarray | None = None,
    ) -> None:
        self.class_weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.offsets = None if logit_offsets is None else torch.as_tensor(logit_offsets, dtype=torch.float32)

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of a batch; ``labels`` are ids, shape (rows,), or after mixup probabilities, shape (rows, classes)."""
        logits = outputs["logits"].float()
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        if self.offsets is not None:
            logits = logits + self.offsets.to(logits.device)
        # Divided by the number of rows, not by the sum of their weights, which differs between batches.
        if self.focal_gamma:
            total = self._focal(logits, labels, weights)
        else:
            total = functional.cross_entropy(
                logits, labels, weight=weights, label_smoothing=self.label_smoothing, reduction="sum"
            )
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def _focal(self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        """Return the sum over the rows and, for smoothed or mixed targets, over their classes as in cross-entropy."""
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
    model answers as if classes were equally frequent. A class without rows counts as having one.

    Args:
        counts: training rows of each class, shape (classes,).
        tau: 1 minimises the balanced error; smaller values are a compromise.
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
    at the expense of rare classes (arXiv 1708.02002, section 3.3).

    Args:
        counts: training rows of each class, shape (classes,).
        rows: number of training rows.
        weights: factor for the rows of each class, shape (classes,), as in the loss.
    """
    odds = (counts + 1) / (rows - counts + 1)
    return np.log(odds if weights is None else odds * weights)


def positive_weights(counts: np.ndarray, rows: int) -> np.ndarray:
    """Return rows without a class per row with it, at most 100, shape (classes,): the factor of the latter in the loss."""
    return np.clip((rows - counts) / np.maximum(counts, 1), 1 / 100, 100)
