"""Rows whose label a model that has not seen them speaks against: confident learning (Northcutt et al., arXiv 1911.00068)."""

from __future__ import annotations

import numpy as np

_ENOUGH = 0.8  # where classes are easily told apart, the mean is near 1 and few mislabelled rows would reach it
_CLEAR = 0.3  # probability by which another class must be ahead: less is doubt, not a mistake


def suspicious(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that are probably mislabelled, the most suspicious first.

    A row is suspicious if the class that it is most probably of, among those that reach the mean probability which rows of
    that class have for it (0.8 at most, and 0.8 for a class without rows), is not the given one and clearly ahead of it.

    Args:
        probabilities: of a model that was not trained on these rows, shape (rows, classes).
        labels: given ids, shape (rows,).

    Returns:
        Numbers of the rows; the class that each looks like; the probability of that class less that of the given one.
    """
    rows, classes = probabilities.shape
    given = probabilities[np.arange(rows), labels]
    counts = np.bincount(labels, minlength=classes)
    means = np.bincount(labels, given, classes) / np.maximum(counts, 1)
    confident = np.where(probabilities >= np.where(counts, np.minimum(_ENOUGH, means), _ENOUGH), probabilities, -1)
    suggested = confident.argmax(axis=1)
    margin = probabilities[np.arange(rows), suggested] - given
    found = np.flatnonzero((confident.max(axis=1) >= 0) & (suggested != labels) & (margin >= _CLEAR))
    found = found[np.argsort(-margin[found], kind="stable")]
    return found, suggested[found], margin[found]
