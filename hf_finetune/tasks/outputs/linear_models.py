"""Linear models of the baseline, on arrays or sparse matrices; ``strength`` is the inverse of the regularisation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from hf_finetune.console import say

MOST_STEPS = 300
_SURE = np.log(1e9)  # largest logit of several classes per row: a probability of 1 - 1e-9


def logistic_regression(
    features: Any, labels: np.ndarray, strength: float, classes: int
) -> Callable[[Any], np.ndarray]:
    """Fit multinomial logistic regression to ids; return a function from features to log-probabilities, (rows, classes)."""
    model = _fit(features, labels.astype(np.int64), strength)

    def answer(features: Any) -> np.ndarray:
        logits = np.full((features.shape[0], classes), np.log(1e-12))  # of classes without rows
        logits[:, model.classes_] = np.log(np.maximum(model.predict_proba(features), 1e-12))
        return logits

    return answer


def one_vs_rest(features: Any, truth: np.ndarray, strength: float) -> Callable[[Any], np.ndarray]:
    """Fit binary logistic regression for each class; return a function from features to logits.

    Both have the shape (rows, classes). If all rows of a class agree, so do all predictions.
    """
    counts = truth.sum(axis=0)
    models = {
        index: _fit(features, truth[:, index].astype(np.int64), strength)
        for index in np.flatnonzero((counts > 0) & (counts < len(truth)))
    }

    def answer(features: Any) -> np.ndarray:
        logits = np.tile(np.where(counts > 0, _SURE, -_SURE), (features.shape[0], 1))
        for index, model in models.items():
            logits[:, index] = np.clip(model.decision_function(features), -_SURE, _SURE)
        return logits

    return answer


def ridge_regression(features: Any, truth: np.ndarray, strength: float) -> Callable[[Any], np.ndarray]:
    """Fit ridge regression; return a function from features to numbers of shape (rows, targets)."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1 / strength).fit(features, truth)
    return lambda features: model.predict(features).reshape(-1, truth.shape[1])


def tolerance(features: Any, labels: np.ndarray) -> float:
    """Return the gradient tolerance of L-BFGS: 1e-3, or a tenth of the largest initial partial derivative if smaller.

    scikit-learn divides the loss by the number of rows, so the derivatives of a class shrink with its share of rows: with
    1,000 classes of three rows, all are below 1e-3 before the first step, and the model would not train at all.
    """
    rows = np.arange(len(labels))
    of_class = csr_matrix((np.ones(len(rows)), (labels, rows)))
    return float(min(1e-3, 0.1 * abs(of_class @ features).max() / len(rows)))


def _fit(features: Any, labels: np.ndarray, strength: float) -> Any:
    """Fit logistic regression; warn if it did not converge."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=MOST_STEPS, tol=tolerance(features, labels))
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # printed below in one line
        model.fit(features, labels)
    steps = int(np.max(model.n_iter_))
    if not 0 < steps < MOST_STEPS:
        what = f"the logistic regression of the baseline did not converge ({steps} of {MOST_STEPS} steps)"
        say(f"Warning: {what}; a better one may be possible.")
    return model
