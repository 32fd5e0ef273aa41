"""One class per row: softmax probabilities, accuracy, F1 and other metrics, and a temperature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from datasets import Dataset
from scipy.special import softmax

from hf_finetune.config import Config
from hf_finetune.config.options import DataConfig
from hf_finetune.data import Splits
from hf_finetune.data.rows.labels import encode_labels, label_names
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs import ranking
from hf_finetune.tasks.outputs.calibration import calibration, fit_temperature
from hf_finetune.tasks.outputs.class_counts import check_one_class_per_row
from hf_finetune.tasks.outputs.classes import ClassOutput, ClassStatistics, recall_precision_f1
from hf_finetune.tasks.outputs.confident_learning import find_label_errors
from hf_finetune.tasks.outputs.linear_models import logistic_regression
from hf_finetune.tasks.outputs.output import Floor, Section
from hf_finetune.tasks.outputs.reading import refuse_delimiter

# Key in ``config.json``. Not ``temperature``: transformers removes that, as a setting of text generation.
TEMPERATURE = "calibration_temperature"

MOST_PAIRS = 10  # most confused pairs to list
MOST_CLASSES = 200  # in a confusion matrix
FEWEST_FOR_ERRORS = 50


class SingleLabelStatistics(ClassStatistics):
    """The data of each row for the metrics; ``chosen`` and ``labels`` are ids."""

    @cached_property
    def losses(self) -> np.ndarray:
        """Return the cross-entropy of each row, shape (rows,)."""
        return -np.log(np.maximum(self.probabilities[np.arange(len(self)), self.labels], 1e-12))


@dataclass(frozen=True)
class SingleLabel(ClassOutput):
    """One class per row; raw outputs are logits of shape (rows, classes), truth is ids of shape (rows,)."""

    temperature: float = 1.0  # divisor of logits for calibrated probabilities (arXiv 1706.04599)

    NAME: ClassVar[str] = "single_label_classification"
    METRICS: ClassVar[dict[str, bool]] = {
        "accuracy": True, "balanced_accuracy": True, "f1_macro": True, "f1_weighted": True, "precision_macro": True,
        "recall_macro": True, "mcc": True, "auroc": True, "loss": False,
    }  # fmt: skip
    CLASS_MEANS: ClassVar[frozenset[str]] = frozenset(
        {"balanced_accuracy", "f1_macro", "precision_macro", "recall_macro", "auroc"}
    )
    SHARES: ClassVar[frozenset[str]] = CLASS_MEANS | {"accuracy", "f1_weighted"}
    CARD_METRICS: ClassVar[tuple[str, ...]] = (
        "accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro", "mcc", "auroc",
    )  # fmt: skip
    FLOOR: ClassVar[Floor] = Floor("majority", "accuracy", "accuracy of always answering the most frequent class")
    ONE_CLASS: ClassVar[bool] = True
    TUNED: ClassVar[dict[str, str]] = {TEMPERATURE: "temperature"}
    ONNX_CODE: ClassVar[str] = """\
logits = logits / getattr(config, "calibration_temperature", 1.0)
probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
probabilities /= probabilities.sum(axis=1, keepdims=True)
for row in probabilities:
    print(config.id2label[int(row.argmax())], row.max())"""

    @classmethod
    def read(cls, train: Dataset, columns: list[str], options: DataConfig) -> Self:
        """Return the output with the classes of the training rows, in natural order or in that of the ``ClassLabel``."""
        refuse_delimiter(cls.NAME, options)
        if len(columns) > 1:
            what, fix = "one class a row stands in one column", "name it with --label_column."
            raise UserError(what, where="--label_columns", fix=fix)
        return cls(label_names(train, columns[0]), columns=columns)

    def encode(self, split: Dataset, split_name: str) -> list[Any]:
        return encode_labels(split, self.columns[0], self.names, split_name)

    def spell(self, label: Any) -> str:
        return self.names[int(label)]

    def class_counts(self, truth: np.ndarray) -> np.ndarray:
        return np.bincount(truth.astype(np.int64), minlength=len(self.names))

    def strata(self, truth: np.ndarray) -> np.ndarray:
        return truth.astype(np.int64)

    def check(self, section: Any, splits: Splits) -> None:
        super().check(section, splits)
        check_one_class_per_row(section, splits)

    def loss(self, config: Config, splits: Splits) -> Any:
        from hf_finetune.tasks.outputs import losses

        counts, tau, offsets = splits.class_counts("train"), config.run.logit_adjustment, None
        weights = losses.class_options(self.names, config, losses.balanced_weights(counts))
        if tau:
            title = f"Logit adjustment in training, tau {tau:g}"
            offsets = losses.print_values(title, self.names, losses.logit_offsets(counts, tau))
        return losses.ClassificationLoss(weights, losses.smoothing(config), config.run.focal_gamma, offsets)

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        return softmax(raw.astype(np.float64), axis=1)

    def calibrated(self, raw: np.ndarray) -> np.ndarray:
        return self.probabilities(raw / self.temperature)

    def statistics(self, raw: np.ndarray, truth: np.ndarray) -> SingleLabelStatistics:
        return SingleLabelStatistics(truth.astype(np.int64), self.decide(raw), self.probabilities(raw))

    def score(self, statistics: SingleLabelStatistics, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every metric of weighted rows.

        Macro averages are over the classes with rows in the resample. ``mcc`` is Gorodkin's multi-class coefficient.
        ``auroc`` is one-vs-rest, averaged over the classes (the ordinary one for two classes), and undefined if a class has
        no rows, or all rows.
        """
        weights = ranking.by_row(weights)
        total = weights.sum(axis=0)
        in_class, of_class, hits = (matrix @ weights for matrix in statistics.by_class)
        present = in_class > 0
        recall, precision, f1 = recall_precision_f1(in_class, of_class, hits)
        return {
            "accuracy": hits.sum(axis=0) / total,
            "balanced_accuracy": _mean_where(recall, present),
            "f1_macro": _mean_where(f1, present),
            "f1_weighted": (f1 * in_class).sum(axis=0) / total,
            "precision_macro": _mean_where(precision, present),
            "recall_macro": _mean_where(recall, present),
            "mcc": _matthews(hits, in_class, of_class, total),
            "auroc": statistics.area_under_roc(weights, total),
            "loss": statistics.losses @ weights / total,
        }

    def row_losses(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return self.statistics(raw, truth).losses

    def constant(self, truth: np.ndarray) -> np.ndarray:
        """Return logits of the most frequent class."""
        raw = np.zeros((len(truth), len(self.names)))
        raw[:, self.class_counts(truth).argmax()] = 10
        return raw

    def label_errors(self, raw: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray] | None:
        if len(truth) < FEWEST_FOR_ERRORS:
            return None
        rows, suggested, margin = find_label_errors(self.calibrated(raw), truth)
        return rows, self.truth(suggested), margin

    def sections(self, raw: np.ndarray, truth: np.ndarray) -> dict[str, Section]:
        """Return ``confusion``, and ``calibration`` before and after the temperature."""
        before, after = (calibration(values(raw), truth) for values in (self.probabilities, self.calibrated))
        return {
            "confusion": confusion(self.names, truth, self.decide(raw)),
            "calibration": {"temperature": self.temperature, "before": before, "after": after},
        }

    def fit_linear(self, features: Any, truth: np.ndarray, strength: float) -> Callable[[Any], np.ndarray]:
        """Fit logistic regression; classes without training rows are never predicted."""
        return logistic_regression(features, truth, strength, len(self.names))

    def tune(self, raw: np.ndarray, truth: np.ndarray, metric: str | None) -> Self:
        return replace(self, temperature=fit_temperature(raw, truth))

    def decide(self, raw: np.ndarray) -> np.ndarray:
        """Return the ids of the most probable classes, shape (rows,)."""
        return raw.argmax(axis=1)

    def answers(self, raw: np.ndarray) -> dict[str, list[Any]]:
        """Return ``prediction`` and its calibrated ``probability``."""
        chosen = self.decide(raw)
        own = self.calibrated(raw)[np.arange(len(chosen)), chosen]
        return {"prediction": self.truth(chosen), "probability": own.tolist()}

    def truth(self, truth: np.ndarray) -> list[Any]:
        return [self.names[int(i)] for i in truth]

    def read_truth(self, cells: list[Any]) -> np.ndarray:
        ids = {name: index for index, name in enumerate(self.names)}
        return np.array([ids[cell] for cell in cells])


def confusion(names: list[str], truth: np.ndarray, answered: np.ndarray) -> Section:
    """Return the confusion matrix and the most confused pairs, from true and predicted ids of shape (rows,).

    Returns:
        ``matrix``: a row per true class, a column per predicted class; empty for more than 200 classes. ``pairs``: the most
        confused classes; ``share`` is of the rows of the true class.
    """
    classes = len(names)
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (truth, answered), 1)
    missed = matrix - np.diag(np.diag(matrix))
    pairs = [divmod(int(cell), classes) for cell in np.argsort(-missed, axis=None, kind="stable")[:MOST_PAIRS]]
    return {
        "matrix": matrix.tolist() if classes <= MOST_CLASSES else [],
        "pairs": [
            {
                "label": names[label],
                "prediction": names[other],
                "rows": int(missed[label, other]),
                "share": float(missed[label, other] / matrix[label].sum()),
            }
            for label, other in pairs
            if missed[label, other]
        ],
    }


def _mean_where(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    return np.where(present, values, 0).sum(axis=0) / present.sum(axis=0)


def _matthews(hits: np.ndarray, true: np.ndarray, answered: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return Gorodkin's multi-class correlation; 0 if only one class is true or predicted."""
    together = hits.sum(axis=0) * total - (true * answered).sum(axis=0)
    spread = (total**2 - np.square(answered).sum(axis=0)) * (total**2 - np.square(true).sum(axis=0))
    return ranking.ratio(together, np.sqrt(spread))
