"""What the head's numbers mean, by kind of label: values, metrics, floors, and the columns of a table of predictions.

One small class a kind, all of the shape of :class:`Target`. Nothing above asks which kind it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from hf_finetune.data.rows.problem import MULTI, REGRESSION
from hf_finetune.tasks.outputs import metrics as single
from hf_finetune.tasks.outputs import multi_label, regression, weighted
from hf_finetune.tasks.outputs.chunks import pool_chunks
from hf_finetune.tasks.outputs.weighted import WeightedMetrics

# Key of a model's ``config.json``. Not ``temperature``: that is a setting of text generation, which transformers takes out.
TEMPERATURE = "calibration_temperature"


class Target(Protocol):
    """A kind of label.

    ``logits`` have the shape (rows, labels); ``labels`` are ids of shape (rows,) or numbers of shape (rows, labels).
    """

    METRICS: ClassVar[dict[str, bool]]  # name → greater is better; the first chooses the best epoch
    names: list[str]

    def values(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities, or predicted numbers, of the shape of the logits."""

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """The values as a user sees them: probabilities of one class a row at their temperature."""

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """What is answered, in the form of the labels."""

    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """All built-in metrics, the loss among them."""

    def weighted(self, logits: np.ndarray, labels: np.ndarray) -> WeightedMetrics:
        """The same metrics as a function of the rows' weights in many resamples."""

    def floor(self, labels: np.ndarray) -> dict[str, float]:
        """What answering always the same reaches on these rows."""

    def by_label(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
        """Figures of every label."""

    def tuned(self) -> dict[str, Any]:
        """What was chosen on the validation rows: keys of the model's ``config.json``."""

    def losses(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """How wrong each row is, shape (rows,)."""

    def constant(self, labels: np.ndarray) -> np.ndarray:
        """Logits of answering always the same, what suits these labels best; of their shape."""

    def answers(self, logits: np.ndarray) -> dict[str, list[Any]]:
        """Columns of a table of predictions."""

    def truth(self, labels: np.ndarray) -> list[Any]:
        """The column of true labels."""


@dataclass
class SingleLabel:
    """One class a row; values are softmax probabilities.

    Args:
        names: the classes.
        temperature: what logits are divided by for the probabilities that a user sees (arXiv 1706.04599).
    """

    names: list[str]
    temperature: float = 1.0
    METRICS: ClassVar[dict[str, bool]] = single.BUILT_IN

    def values(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities, rows summing to 1."""
        return single.softmax(logits.astype(np.float64))

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities at the temperature."""
        return self.values(logits / self.temperature)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """Ids of the most probable classes, shape (rows,)."""
        return logits.argmax(axis=1)

    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Accuracy and its kin, and the cross-entropy."""
        probabilities = self.values(logits)
        found = single.classification_metrics(probabilities, labels)  # the `evaluate` module adds 10 ms to every epoch
        return found | {"loss": float(self.losses(logits, labels).mean())}

    def weighted(self, logits: np.ndarray, labels: np.ndarray) -> WeightedMetrics:
        """The same of many resamples."""
        return weighted.single_label(self.values(logits), labels)

    def floor(self, labels: np.ndarray) -> dict[str, float]:
        """Accuracy of the most frequent class."""
        return {"majority_accuracy": single.majority_share(labels)}

    def by_label(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
        """Precision, recall, F1 and rows of each class."""
        return single.per_class(self.values(logits), labels, self.names)

    def tuned(self) -> dict[str, Any]:
        """The temperature."""
        return {TEMPERATURE: self.temperature}

    def losses(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Cross-entropy of each row."""
        return -np.log(np.maximum(self.values(logits)[np.arange(len(labels)), labels], 1e-12))

    def constant(self, labels: np.ndarray) -> np.ndarray:
        """The most frequent class."""
        logits = np.zeros((len(labels), len(self.names)))
        logits[:, np.bincount(labels).argmax()] = 10
        return logits

    def answers(self, logits: np.ndarray) -> dict[str, list[Any]]:
        """``prediction`` and its calibrated ``probability``."""
        chosen = self.decide(logits)
        return {
            "prediction": [self.names[int(i)] for i in chosen],
            "probability": self.calibrated(logits)[np.arange(len(chosen)), chosen].tolist(),
        }

    def truth(self, labels: np.ndarray) -> list[Any]:
        """Class names."""
        return [self.names[int(i)] for i in labels]


@dataclass
class MultiLabel:
    """Several classes a row, or none; values are sigmoid probabilities, one a class.

    Args:
        names: the classes.
        thresholds: probability from which on a class is answered, of each class; 0.5 where there are none.
    """

    names: list[str]
    thresholds: list[float] = field(default_factory=list)
    METRICS: ClassVar[dict[str, bool]] = multi_label.BUILT_IN

    def values(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities of each class on its own."""
        return multi_label.sigmoid(logits.astype(np.float64))

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """The values."""
        return self.values(logits)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """0 and 1 of each class, shape (rows, classes)."""
        return (self.values(logits) >= np.array(self.thresholds or [0.5] * len(self.names))).astype(np.int64)

    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """F1 over all answers, over classes and over rows, average precision, AUROC, and the binary cross-entropy."""
        return multi_label.multi_label_metrics(self.values(logits), self.decide(logits), labels.astype(np.int64))

    def weighted(self, logits: np.ndarray, labels: np.ndarray) -> WeightedMetrics:
        """The same of many resamples."""
        return weighted.multi_label(self.values(logits), self.decide(logits), labels.astype(np.int64))

    def floor(self, labels: np.ndarray) -> dict[str, float]:
        """F1 of answering the most frequent class for every row."""
        return multi_label.majority_floor(labels.astype(np.int64))

    def by_label(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
        """Precision, recall, F1, rows and threshold of each class."""
        thresholds = self.thresholds or [0.5] * len(self.names)
        figures = multi_label.per_class(self.decide(logits), labels.astype(np.int64), self.names)
        return {name: f | {"threshold": t} for (name, f), t in zip(figures.items(), thresholds, strict=True)}

    def tuned(self) -> dict[str, Any]:
        """The thresholds."""
        return {"thresholds": self.thresholds}

    def losses(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Binary cross-entropy of each row, averaged over the classes."""
        each = np.logaddexp(0, logits.astype(np.float64)) - labels * logits
        return each.mean(axis=1)

    def constant(self, labels: np.ndarray) -> np.ndarray:
        """The most frequent class, and no other."""
        logits = np.full(labels.shape, -20.0)
        logits[:, labels.sum(axis=0).argmax()] = 20
        return logits

    def answers(self, logits: np.ndarray) -> dict[str, list[Any]]:
        """``prediction``, a list of names, and ``probability``, of each of them."""
        probabilities, chosen = self.values(logits), self.decide(logits)
        picked = [np.flatnonzero(row) for row in chosen]
        return {
            "prediction": [[self.names[i] for i in row] for row in picked],
            "probability": [p[row].tolist() for p, row in zip(probabilities, picked, strict=True)],
        }

    def truth(self, labels: np.ndarray) -> list[Any]:
        """Lists of class names."""
        return [[self.names[i] for i in np.flatnonzero(row)] for row in labels]


@dataclass
class Regression:
    """Numbers; values are the head's own.

    Args:
        names: of the targets.
        mean: of each target over the training rows, where the head's numbers are standardised (while it trains).
        std: likewise.
    """

    names: list[str]
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    METRICS: ClassVar[dict[str, bool]] = regression.BUILT_IN

    def values(self, logits: np.ndarray) -> np.ndarray:
        """The numbers in the units of the labels."""
        return logits.astype(np.float64) * np.array(self.std or 1.0) + np.array(self.mean or 0.0)

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """The values."""
        return self.values(logits)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """The numbers."""
        return self.values(logits)

    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Errors, explained variance and correlations; of several targets their mean."""
        return regression.regression_metrics(self.values(logits), labels)

    def weighted(self, logits: np.ndarray, labels: np.ndarray) -> WeightedMetrics:
        """The same of many resamples."""
        return weighted.regression(self.values(logits), labels)

    def floor(self, labels: np.ndarray) -> dict[str, float]:
        """Root mean squared error of answering the mean of these rows."""
        return {"mean_rmse": float(np.sqrt(np.var(labels, axis=0)).mean())}

    def by_label(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
        """The same figures of each target."""
        values = self.values(logits)
        return {
            name: regression.regression_metrics(values[:, [i]], labels[:, [i]]) for i, name in enumerate(self.names)
        }

    def tuned(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def losses(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Absolute error of each row in standard deviations of the labels, averaged over the targets."""
        spread = labels.std(axis=0)
        return (np.abs(self.values(logits) - labels) / np.where(spread > 0, spread, 1)).mean(axis=1)

    def constant(self, labels: np.ndarray) -> np.ndarray:
        """The mean."""
        return np.tile((labels.mean(axis=0) - np.array(self.mean or 0.0)) / np.array(self.std or 1.0), (len(labels), 1))

    def answers(self, logits: np.ndarray) -> dict[str, list[Any]]:
        """``prediction``: a number, or a list of as many as there are targets."""
        values = self.values(logits)
        return {"prediction": values[:, 0].tolist() if len(self.names) == 1 else values.tolist()}

    def truth(self, labels: np.ndarray) -> list[Any]:
        """Numbers, or lists of them."""
        return labels[:, 0].tolist() if len(self.names) == 1 else labels.tolist()


def make_target(
    problem: str | None,
    names: list[str],
    thresholds: list[float] | None = None,
    calibration_temperature: float | None = None,
) -> Target:
    """The kind of label of a ``problem_type``; transformers writes none where it is one class a row."""
    if problem == MULTI:
        return MultiLabel(names, list(thresholds or []))
    return Regression(names) if problem == REGRESSION else SingleLabel(names, calibration_temperature or 1.0)


def metric_function(
    target: Target, extra: str | None = None, rows: np.ndarray | None = None
) -> Callable[[Any], dict[str, float]]:
    """The Trainer's ``compute_metrics``: the built-in metrics, and one of the Hub where it is asked for.

    Args:
        target: the kind of label.
        extra: the metric of the Hub.
        rows: where the Trainer evaluates chunks of longer texts, the row of each chunk in the order in which it does so;
            all metrics, the loss among them, are then those of the rows.

    Raises:
        UserError: the Hub has no such metric, or cannot be reached.
    """
    hub = single.load_hub_metric(extra, target.METRICS) if extra and extra not in target.METRICS else None

    def compute(prediction: Any) -> dict[str, float]:
        logits, labels = np.asarray(prediction.predictions, dtype=np.float64), np.asarray(prediction.label_ids)
        if rows is not None:
            logits, labels = _by_row(logits, labels, rows)
        found = target.metrics(logits, labels)
        if rows is None:
            found.pop("loss")  # the Trainer reports that of training
        return found | (
            single.hub_metric_value(hub, str(extra), target.decide(logits), labels) if hub is not None else {}
        )

    return compute


def _by_row(logits: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of rows, from those of their chunks; ``--dataloader_drop_last`` leaves the last chunks out."""
    rows = rows[: len(logits)]
    _, first, own = np.unique(rows, return_index=True, return_inverse=True)
    if not np.array_equal(labels, labels[first][own]):
        raise RuntimeError("the chunks of a row came with different labels: they are not in the expected order")
    return pool_chunks(logits, rows), labels[first]


def target_of(settings: Any) -> Target:
    """The kind of label of a saved model, read off its configuration."""
    names = [settings.id2label[index] for index in range(len(settings.id2label))]
    return make_target(
        getattr(settings, "problem_type", None),
        names,
        getattr(settings, "thresholds", None),
        getattr(settings, TEMPERATURE, None),
    )
