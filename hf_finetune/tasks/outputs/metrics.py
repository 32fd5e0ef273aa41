"""Classification metrics as an ``evaluate`` module that computes offline, and any metric of the Hub beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import datasets
import evaluate
import numpy as np

from hf_finetune.errors import UserError

# name → greater is better
BUILT_IN = {
    "accuracy": True,
    "balanced_accuracy": True,
    "f1_macro": True,
    "f1_weighted": True,
    "precision_macro": True,
    "recall_macro": True,
    "mcc": True,
    "auroc": True,
    "loss": False,
}

_DESCRIPTION = "Accuracy, F1, precision, recall, MCC and AUROC of predicted class probabilities, by scikit-learn."


class ClassificationMetrics(evaluate.Metric):
    """All built-in metrics in one ``evaluate`` module.

    ``compute(predictions=probabilities, references=labels)`` takes probabilities of shape (rows, classes) and label ids
    of shape (rows,). AUROC is one-against-rest, averaged over the classes (Hand and Till 2001 for two classes gives the
    ordinary curve); it is left out where the rows do not hold every class.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions: probabilities (rows, classes); references: label ids (rows,)",
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: Any, references: Any, **_: Any) -> dict[str, float]:
        return classification_metrics(np.asarray(predictions, dtype=np.float64), np.asarray(references))


def classification_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The built-in metrics but the loss.

    Args:
        probabilities: shape (rows, classes).
        labels: true ids, shape (rows,).
    """
    from sklearn.metrics import matthews_corrcoef, precision_recall_fscore_support

    predicted = probabilities.argmax(axis=1)
    # Once for all: each function of scikit-learn checks its arguments anew, every epoch.
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=np.unique(labels), average=None, zero_division=0
    )
    metrics = {
        "accuracy": np.mean(predicted == labels),
        "balanced_accuracy": recall.mean(),
        "f1_macro": f1.mean(),
        "f1_weighted": np.average(f1, weights=support),
        "precision_macro": precision.mean(),
        "recall_macro": recall.mean(),
        # Not defined where rows and answers are all of one class: scikit-learn gives 0, with a warning.
        "mcc": matthews_corrcoef(labels, predicted) if np.ptp(labels) or np.ptp(predicted) else 0.0,
    }
    area = _auroc(probabilities, labels)
    if area is not None:
        metrics["auroc"] = area
    return {name: float(value) for name, value in metrics.items()}


def per_class(probabilities: np.ndarray, labels: np.ndarray, names: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and rows (``support``) of each class."""
    from sklearn.metrics import precision_recall_fscore_support

    ids = np.arange(len(names))
    scores = precision_recall_fscore_support(labels, probabilities.argmax(axis=1), labels=ids, zero_division=0)
    keys = ("precision", "recall", "f1", "support")
    return {
        name: {key: float(column[i]) for key, column in zip(keys, scores, strict=True)} for i, name in enumerate(names)
    }


def majority_share(labels: np.ndarray) -> float:
    """Accuracy of always answering the most frequent class of these rows: the floor that every model must beat."""
    return float(np.bincount(labels).max() / len(labels))


def load_hub_metric(name: str, built_in: Iterable[str] = BUILT_IN) -> Any:
    """A metric module of the Hub, or of a local folder.

    Raises:
        UserError: there is none of this name.
    """
    try:
        return evaluate.load(name)
    except (FileNotFoundError, ConnectionError, ModuleNotFoundError, ImportError, OSError) as error:
        raise UserError(
            f"{name!r} is none of the built-in metrics ({', '.join(built_in)}), and the Hub gave none of this name",
            where="--metric",
            fix="choose a built-in metric, or check the name and the network.",
        ) from error


def hub_metric_value(module: Any, name: str, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The numbers that a Hub metric gives for predicted ids; its first number bears the name of the metric too."""
    try:
        result = module.compute(predictions=predicted.tolist(), references=labels.tolist())
    except ValueError as error:
        if "average" not in str(error):
            raise
        result = module.compute(predictions=predicted.tolist(), references=labels.tolist(), average="macro")
    numbers = {str(key): float(value) for key, value in result.items() if np.ndim(value) == 0}
    if not numbers:
        raise UserError(f"{name!r} gives no single number", where="--metric", fix="choose a metric that gives one.")
    return numbers | {metric_key(name): next(iter(numbers.values()))}


def metric_key(name: str) -> str:
    """What a metric is called in ``metrics.json``: the last part of a Hub id or path."""
    return name.rstrip("/").rpartition("/")[2].removesuffix(".py")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, shape (rows, classes)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _auroc(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    if len(np.unique(labels)) < probabilities.shape[1]:
        return None
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    return float(roc_auc_score(labels, probabilities, multi_class="ovr"))
