"""Metrics where a row has several classes, and the thresholds from which on a class is answered."""

from __future__ import annotations

import numpy as np

# name → greater is better. The first needs no threshold, so that it can choose the epoch that thresholds are tuned on.
BUILT_IN = {
    "average_precision": True,
    "f1_micro": True,
    "f1_macro": True,
    "f1_samples": True,
    "precision_micro": True,
    "recall_micro": True,
    "accuracy": True,
    "hamming_loss": False,
    "auroc": True,
    "loss": False,
}


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, element by element."""
    return np.exp(-np.logaddexp(0, -logits))


def multi_label_metrics(probabilities: np.ndarray, chosen: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The built-in metrics.

    Args:
        probabilities: shape (rows, classes).
        chosen: 0 and 1, which classes are answered; same shape.
        labels: 0 and 1, the true classes; same shape.

    Returns:
        ``average_precision`` is micro-averaged. ``accuracy`` is the share of rows whose classes are all right. ``auroc`` is
        averaged over the classes, and left out where one has no row or all rows.
    """
    from sklearn.metrics import (
        average_precision_score,
        f1_score,
        hamming_loss,
        precision_score,
        recall_score,
        roc_auc_score,
    )

    clipped = np.clip(probabilities, 1e-12, 1 - 1e-12)
    found = {
        "average_precision": average_precision_score(labels, probabilities, average="micro"),
        "f1_micro": f1_score(labels, chosen, average="micro", zero_division=0),
        "f1_macro": f1_score(labels, chosen, average="macro", zero_division=0),
        "f1_samples": f1_score(labels, chosen, average="samples", zero_division=1),
        "precision_micro": precision_score(labels, chosen, average="micro", zero_division=0),
        "recall_micro": recall_score(labels, chosen, average="micro", zero_division=0),
        "accuracy": (labels == chosen).all(axis=1).mean(),
        "hamming_loss": hamming_loss(labels, chosen),
        "loss": -(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)).mean(),
    }
    present = labels.sum(axis=0)
    if present.all() and (present < len(labels)).all():
        found["auroc"] = roc_auc_score(labels, probabilities, average="macro")
    return {name: float(value) for name, value in found.items()}


def per_class(chosen: np.ndarray, labels: np.ndarray, names: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and rows (``support``) of each class."""
    from sklearn.metrics import precision_recall_fscore_support

    scores = precision_recall_fscore_support(labels, chosen, average=None, zero_division=0)
    keys = ("precision", "recall", "f1", "support")
    return {
        name: {key: float(column[i]) for key, column in zip(keys, scores, strict=True)} for i, name in enumerate(names)
    }


def majority_floor(labels: np.ndarray) -> dict[str, float]:
    """Micro F1 of answering the most frequent class for every row."""
    from sklearn.metrics import f1_score

    always = np.zeros_like(labels)
    always[:, labels.sum(axis=0).argmax()] = 1
    return {"majority_f1_micro": float(f1_score(labels, always, average="micro", zero_division=0))}


def tune_thresholds(probabilities: np.ndarray, labels: np.ndarray, *, each: bool = False) -> list[float]:
    """The threshold of each class that gives the best F1 on held-out rows.

    One threshold for all classes gives the best micro F1; ``each`` gives every class its own, which is best for macro F1 and
    answers rare classes more often. A class with fewer than five rows is not worth one: it takes that of all classes
    together. A threshold lies midway between two probabilities, so that rounding does not decide.

    Args:
        probabilities: shape (rows, classes).
        labels: 0 and 1, same shape.
        each: whether classes get thresholds of their own.
    """
    common = _best_threshold(probabilities.ravel(), labels.ravel())
    return [
        _best_threshold(probabilities[:, i], labels[:, i]) if each and labels[:, i].sum() >= 5 else common
        for i in range(labels.shape[1])
    ]


def _best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(labels[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + max(1, labels.sum()))
    # Rows of equal probability are answered together: only the last of them is a place to cut.
    cuts = np.append(ranked[1:] < ranked[:-1], True)
    best = int(np.where(cuts, f1, -1).argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)
