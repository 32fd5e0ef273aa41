"""Whether probabilities are true: how far off they are, and the temperature that mends it."""

from __future__ import annotations

from typing import Any

import numpy as np

LOWEST, HIGHEST = 0.05, 20.0
_ENOUGH = 100_000  # rows; more do not move the temperature
_ROWS_A_BIN = 10


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The number that logits are divided by so that held-out labels become most probable (Guo et al., arXiv 1706.04599).

    Where few rows speak the likelihood alone asks for extremes; a weak prior (log T is normal with mean 0 and deviation 1),
    which weighs as much as a fraction of a row, holds it near 1. With no wrong row the likelihood asks for full certainty,
    whatever the model is like: then the probabilities stay as they are.

    Args:
        logits: of rows that the model was not trained on, shape (rows, classes).
        labels: their true ids, shape (rows,).

    Returns:
        Above 1 where the model is too sure, below where it is not sure enough; from 0.05 to 20, and 1 without wrong
        rows.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    if (logits.argmax(axis=1) == labels).all():
        return 1.0
    step = -(-len(labels) // _ENOUGH)
    logits, labels = logits[::step].astype(np.float64), labels[::step].astype(np.int64)
    behind = logits - logits[np.arange(len(labels)), labels][:, None]  # behind the true class: its loss is logsumexp

    def loss(log_temperature: float) -> float:
        return float(logsumexp(behind / np.exp(log_temperature), axis=1).sum() + log_temperature**2 / 2)

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> dict[str, Any]:
    """How far probabilities are from the shares of rows in which they come true.

    Args:
        probabilities: shape (rows, classes).
        labels: true ids, shape (rows,); then the probability of the answer is judged. Or 0 and 1, shape (rows, classes), where
            a row has several classes; then that of every class of every row is.
        bins: of the curve, at most; there are fewer where they would hold less than ten rows.

    Returns:
        ``curve``: mean ``confidence``, ``accuracy`` (share in which it came true) and ``rows`` (decisions) of bins of equally
        many rows, equal probabilities in one bin. ``ece``: mean distance of the two over the rows (expected calibration
        error). ``brier``: mean over rows of the squared errors, summed over classes where a row has one class.
    """
    if labels.ndim == 2:
        confidence, true = probabilities.ravel().astype(np.float64), labels.ravel().astype(np.float64)
        brier = np.square(confidence - true).mean()
    else:
        rows = np.arange(len(labels))
        confidence, true = probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(np.float64)
        own = probabilities[rows, labels]
        brier = (np.square(probabilities).sum(axis=1) - 2 * own + 1).mean()
    curve = _curve(confidence, true, max(1, min(bins, len(labels) // _ROWS_A_BIN)))
    off = sum(abs(point["confidence"] - point["accuracy"]) * point["rows"] for point in curve)
    return {"ece": float(off / len(confidence)), "brier": float(brier), "curve": curve}


def _curve(confidence: np.ndarray, true: np.ndarray, bins: int) -> list[dict[str, Any]]:
    _, tie, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2  # of a group of equal probabilities, which falls where its middle falls
    own = (middle * bins / len(confidence)).astype(np.int64)[tie]
    rows = np.bincount(own, minlength=bins)
    sums = np.bincount(own, confidence, bins), np.bincount(own, true, bins)
    return [
        {"confidence": float(sums[0][i] / rows[i]), "accuracy": float(sums[1][i] / rows[i]), "rows": int(rows[i])}
        for i in np.flatnonzero(rows)
    ]
