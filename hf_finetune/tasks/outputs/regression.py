"""Metrics of predicted numbers."""

from __future__ import annotations

import numpy as np

# name → greater is better
BUILT_IN = {"rmse": False, "mae": False, "r2": True, "pearson": True, "spearman": True, "mse": False, "loss": False}


def regression_metrics(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The built-in metrics, each the mean over the targets.

    Args:
        values: predicted numbers, shape (rows, targets).
        labels: true numbers, same shape.

    Returns:
        ``rmse``, ``mae``, ``mse`` and ``loss`` (the same as ``mse``) in the units of the labels. ``r2`` is left out where a
        target has one value only, ``pearson`` and ``spearman`` also where all predictions are equal.
    """
    errors = values - labels
    mse = np.square(errors).mean(axis=0)
    spread = labels.var(axis=0)
    found = {"rmse": np.sqrt(mse).mean(), "mae": np.abs(errors).mean(), "mse": mse.mean(), "loss": mse.mean()}
    if (spread > 0).all():
        found["r2"] = (1 - mse / spread).mean()
        if (np.ptp(values, axis=0) > 0).all():  # the variance of equal numbers may be a rounding error
            found["pearson"] = np.mean([_correlation(v, t) for v, t in zip(values.T, labels.T, strict=True)])
            found["spearman"] = np.mean(
                [_correlation(_ranks(v), _ranks(t)) for v, t in zip(values.T, labels.T, strict=True)]
            )
    return {name: float(value) for name, value in found.items()}


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(numbers: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(numbers)
