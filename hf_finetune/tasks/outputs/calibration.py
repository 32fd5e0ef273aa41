"""Calibration of probabilities: how well they agree with accuracy, and temperature scaling."""

from __future__ import annotations

from typing import Any

import numpy as np

LOWEST, HIGHEST = 0.05, 20.0
_ENOUGH = 100_000  # rows to fit on; more do not change the temperature
_ROWS_PER_BIN = 10


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that maximises the likelihood of held-out labels (Guo et al., arXiv 1706.04599).

    With few rows the likelihood alone leads to extremes. A weak prior (log T is normal with mean 0 and standard deviation
    1), with the weight of a fraction of a row, keeps T near 1. If no row is wrong, the likelihood always asks for full
    certainty, so T is 1. It is a number from 0.05 to 20 to divide logits by, above 1 for an overconfident model.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    if (logits.argmax(axis=1) == labels).all():
        return 1.0
    step = -(-len(labels) // _ENOUGH)
    logits, labels = logits[::step].astype(np.float64), labels[::step].astype(np.int64)
    behind = logits - logits[np.arange(len(labels)), labels][:, None]  # so that the loss is logsumexp

    def loss(log_temperature: float) -> float:
        return float(logsumexp(behind / np.exp(log_temperature), axis=1).sum() + log_temperature**2 / 2)

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> dict[str, Any]:
    """Return calibration error, Brier score and reliability curve of probabilities of shape (rows, classes).

    Args:
        labels: true class ids, shape (rows,), to evaluate the probability of the predicted class; or 0 and 1, shape
            (rows, classes), for several classes per row, to evaluate all probabilities.
        bins: largest number of bins of the curve; each has at least ten rows.

    Returns:
        ``curve``: mean ``confidence``, ``accuracy`` and number of ``rows`` (decisions) of each bin; bins have equally many
        rows, and equal probabilities are in one bin. ``ece``: expected calibration error, the mean over rows of the
        distance between confidence and accuracy. ``brier``: mean squared error; with one class per row, summed over classes.
    """
    if labels.ndim == 2:
        confidence, true = probabilities.ravel().astype(np.float64), labels.ravel().astype(np.float64)
        brier = np.square(confidence - true).mean()
    else:
        confidence, true = probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(np.float64)
        own = probabilities[np.arange(len(labels)), labels]
        brier = (np.square(probabilities).sum(axis=1) - 2 * own + 1).mean()
    bins = max(1, min(bins, len(labels) // _ROWS_PER_BIN))
    _, tie, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2  # equal probabilities all go to the bin of their middle rank
    own = (middle * bins / len(confidence)).astype(np.int64)[tie]
    rows = np.bincount(own, minlength=bins)
    means = (np.bincount(own, each, bins)[rows > 0] / rows[rows > 0] for each in (confidence, true))
    points = zip(*(each.tolist() for each in means), rows[rows > 0].tolist(), strict=True)
    curve = [dict(zip(("confidence", "accuracy", "rows"), point, strict=True)) for point in points]
    off = sum(abs(point["confidence"] - point["accuracy"]) * point["rows"] for point in curve)
    return {"ece": float(off / len(confidence)), "brier": float(brier), "curve": curve}
