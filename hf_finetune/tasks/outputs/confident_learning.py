"""Rows whose label is probably wrong, found by confident learning (Northcutt et al., arXiv 1911.00068)."""

from __future__ import annotations

import numpy as np

_HIGHEST_THRESHOLD = 0.8  # easy classes have a mean probability near 1, which few mislabelled rows reach
_MARGIN = 0.3  # probability by which another class must exceed the given one; a smaller margin is only uncertainty


def find_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows that are probably mislabelled, those with the largest margin first.

    The threshold of a class is the mean probability that its rows have for it, at most 0.8, and 0.8 for a class without
    rows. A row is returned if, among the classes that reach their threshold, the most probable one is not the given
    class and exceeds it by at least 0.3. The probabilities, shape (rows, classes), are those of a model that was not
    trained on these rows.

    Returns:
        Indices of the rows; suggested classes; margins: the probability of the suggested minus that of the given class.
    """
    rows, classes = probabilities.shape
    given = probabilities[np.arange(rows), labels]
    counts = np.bincount(labels, minlength=classes)
    means = np.bincount(labels, given, classes) / np.maximum(counts, 1)
    thresholds = np.where(counts, np.minimum(_HIGHEST_THRESHOLD, means), _HIGHEST_THRESHOLD)
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    suggested = confident.argmax(axis=1)
    margin = probabilities[np.arange(rows), suggested] - given
    found = np.flatnonzero((confident.max(axis=1) >= 0) & (suggested != labels) & (margin >= _MARGIN))
    found = found[np.argsort(-margin[found], kind="stable")]
    return found, suggested[found], margin[found]
