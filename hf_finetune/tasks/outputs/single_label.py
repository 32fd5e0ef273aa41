"""One class per row: softmax probabilities, accuracy, F1 and other metrics, and a temperature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_matrix

from hf_finetune.data.rows.labels import encode_labels, label_names
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs import ranking
from hf_finetune.tasks.outputs.calibration import calibration, fit_temperature
from hf_finetune.tasks.outputs.class_counts import check_classes, check_names, check_too_few, class_notes, class_table
from hf_finetune.tasks.outputs.confident_learning import find_label_errors
from hf_finetune.tasks.outputs.linear_models import logistic_regression
from hf_finetune.tasks.outputs.logits import LogitOutput, softmax, top_classes
from hf_finetune.tasks.outputs.output import Answer, Bar, Floor, Section
from hf_finetune.tasks.outputs.reading import refuse_delimiter

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_finetune.config import Config
    from hf_finetune.config.options import DataConfig
    from hf_finetune.data import Splits

# Key in ``config.json``. Not ``temperature``: transformers removes that, as a setting of text generation.
TEMPERATURE = "calibration_temperature"

MOST_PAIRS = 10  # most confused pairs to list
MOST_CLASSES = 200  # in a confusion matrix
FEWEST_FOR_ERRORS = 50


@dataclass(frozen=True)
class SingleLabelStatistics:
    """Probabilities, shape (rows, classes), and true ids, shape (rows,), for the metrics."""

    probabilities: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> SingleLabelStatistics:
        return SingleLabelStatistics(self.probabilities[rows], self.labels[rows])

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    @cached_property
    def class_rows(self) -> np.ndarray:
        """Return the rows of each class, shape (classes,)."""
        return np.bincount(self.labels, minlength=self.probabilities.shape[1])

    @cached_property
    def losses(self) -> np.ndarray:
        """Return the cross-entropy of each row, shape (rows,)."""
        return -np.log(np.maximum(self.probabilities[np.arange(len(self)), self.labels], 1e-12))

    @cached_property
    def by_class(self) -> tuple[csr_matrix, csr_matrix, csr_matrix]:
        """Return the true, the predicted and the correctly predicted rows of each class, each of shape (classes, rows)."""
        predicted, rows = self.probabilities.argmax(axis=1), np.arange(len(self))
        shape = self.probabilities.shape[::-1]
        right = predicted == self.labels
        return (
            csr_matrix((np.ones(len(self)), (self.labels, rows)), shape),
            csr_matrix((np.ones(len(self)), (predicted, rows)), shape),
            csr_matrix((np.ones(right.sum()), (predicted[right], rows[right])), shape),
        )

    @cached_property
    def ranked(self) -> list[ranking.Ranked]:
        """Return the ranking of each class's probabilities (of two classes, the second); empty if a class has no rows."""
        classes = self.probabilities.shape[1]
        if not self.class_rows.all():
            return []
        return [
            ranking.rank_scores(self.probabilities[:, i], self.labels == i)
            for i in ([1] if classes == 2 else range(classes))
        ]


@dataclass(frozen=True)
class SingleLabel(LogitOutput):
    """One class per row; raw outputs are logits of shape (rows, classes), truth is ids of shape (rows,).

    Args:
        names: the classes.
        temperature: divisor of logits for calibrated probabilities (arXiv 1706.04599).
        columns: the label column.
    """

    names: list[str]
    temperature: float = 1.0
    columns: list[str] = field(default_factory=list, kw_only=True)

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
    HUB_METRICS: ClassVar[dict[str, str]] = {"accuracy": "accuracy", "f1_macro": "f1"}
    FLOOR: ClassVar[Floor] = Floor("majority", "accuracy", "accuracy of always answering the most frequent class")
    HAS_CLASSES: ClassVar[bool] = True
    ONE_CLASS: ClassVar[bool] = True
    SMALLEST_SCALE: ClassVar[float] = 1.0
    LINEAR_MODEL: ClassVar[str] = "logistic regression"
    PIPELINE_OPTIONS: ClassVar[dict[str, Any]] = {}
    ONNX_CODE: ClassVar[str] = """\
logits = logits / getattr(config, "calibration_temperature", 1.0)
probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
probabilities /= probabilities.sum(axis=1, keepdims=True)
for row in probabilities:
    print(config.id2label[int(row.argmax())], row.max())"""

    # Labels

    @classmethod
    def recognise(cls, train: Dataset, columns: list[str], options: DataConfig) -> bool:
        """Return True: this is the default kind of label."""
        return True

    @classmethod
    def read(cls, train: Dataset, columns: list[str], options: DataConfig) -> Self:
        """Return the output with the classes of the training rows, in natural order or in that of the ``ClassLabel``.

        Raises:
            UserError: several columns, fewer than two classes, or cells that are not classes.
        """
        refuse_delimiter(cls.NAME, options)
        if len(columns) > 1:
            raise UserError(
                "one class a row stands in one column",
                where="--label_columns",
                fix="name it with --label_column.",
            )
        return cls(label_names(train, columns[0]), columns=columns)

    @classmethod
    def restore(cls, names: list[str], tuned: dict[str, Any]) -> Self:
        """Return the output of a saved model."""
        return cls(names, tuned.get(TEMPERATURE) or 1.0)

    def read_from(self, columns: list[str], options: DataConfig) -> Self:
        """Return the same output, whose labels are in these columns."""
        return replace(self, columns=columns)

    def encode(self, split: Dataset, split_name: str) -> list[Any]:
        """Return the class ids; see :meth:`Output.encode`."""
        return encode_labels(split, self.columns[0], self.names, split_name)

    def describe(self) -> str:
        """Return the number of classes, in words."""
        return f"{len(self.names)} classes"

    def spell(self, label: Any) -> str:
        """Return the name of the class."""
        return self.names[int(label)]

    def class_counts(self, truth: np.ndarray) -> np.ndarray:
        """Return the rows of each class."""
        return np.bincount(truth.astype(np.int64), minlength=len(self.names))

    def strata(self, truth: np.ndarray) -> np.ndarray:
        """Return the classes."""
        return truth.astype(np.int64)

    def summary(self, splits: Splits) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Return rows, classes, the smallest and the largest class of each split."""
        return class_table(splits)

    def notes(self, splits: Splits) -> list[str]:
        """Return a note on classes without training rows."""
        return class_notes(splits)

    def check(self, section: Any, splits: Splits) -> None:
        """Add rows by class, and findings on missing, rare or implausible classes."""
        check_too_few(section, splits)
        check_classes(section, splits)
        check_names(section, self.names, len(splits.train))

    # Training

    def loss(self, config: Config, splits: Splits) -> Any:
        """Return cross-entropy with the requested weights, smoothing, focal factor and offsets."""
        from hf_finetune.tasks.outputs.losses import single_label_loss

        return single_label_loss(self.names, config, splits)

    # Raw outputs

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """Return the probabilities for metrics, at temperature 1, shape (rows, classes)."""
        return softmax(raw.astype(np.float64))

    def calibrated(self, raw: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities for users, shape (rows, classes)."""
        return self.probabilities(raw / self.temperature)

    # Scores

    def statistics(self, raw: np.ndarray, truth: np.ndarray) -> SingleLabelStatistics:
        """Return probabilities and labels."""
        return SingleLabelStatistics(self.probabilities(raw), truth.astype(np.int64))

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
        recall, precision, f1 = _precision_recall_f1(in_class, of_class, hits)
        areas = [ranking.area_under_roc(ranked, weights, total) for ranked in statistics.ranked]
        return {
            "accuracy": hits.sum(axis=0) / total,
            "balanced_accuracy": _mean_where(recall, present),
            "f1_macro": _mean_where(f1, present),
            "f1_weighted": (f1 * in_class).sum(axis=0) / total,
            "precision_macro": _mean_where(precision, present),
            "recall_macro": _mean_where(recall, present),
            "mcc": _matthews(hits, in_class, of_class, total),
            "auroc": np.mean(areas, axis=0) if areas else np.full(len(total), np.nan),
            "loss": statistics.losses @ weights / total,
        }

    def per_label(self, statistics: SingleLabelStatistics) -> dict[str, dict[str, float]]:
        """Return ``precision``, ``recall``, ``f1`` and ``support`` of each class."""
        rows = np.ones((len(statistics), 1))
        in_class, of_class, hits = (matrix @ rows for matrix in statistics.by_class)
        recall, precision, f1 = _precision_recall_f1(in_class, of_class, hits)
        figures = {"precision": precision, "recall": recall, "f1": f1, "support": in_class}
        return {name: {key: float(f[i, 0]) for key, f in figures.items()} for i, name in enumerate(self.names)}

    def row_losses(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return the cross-entropy of each row."""
        return self.statistics(raw, truth).losses

    def wrong(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return which rows have a wrong prediction."""
        return self.decide(raw) != truth

    def constant(self, truth: np.ndarray) -> np.ndarray:
        """Return logits of the most frequent class."""
        raw = np.zeros((len(truth), len(self.names)))
        raw[:, np.bincount(truth).argmax()] = 10
        return raw

    def label_errors(self, raw: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray] | None:
        """Return held-out rows whose label the model disagrees with (confident learning, arXiv 1911.00068)."""
        if len(truth) < FEWEST_FOR_ERRORS:
            return None
        rows, suggested, margin = find_label_errors(self.calibrated(raw), truth)
        return rows, [self.names[int(i)] for i in suggested], margin

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

    # Answers

    def tune(self, raw: np.ndarray, truth: np.ndarray, metric: str | None) -> Self:
        """Return the output with the temperature fitted on these rows."""
        return replace(self, temperature=fit_temperature(raw, truth))

    def tuned(self) -> dict[str, Any]:
        """Return the temperature."""
        return {TEMPERATURE: self.temperature}

    def decide(self, raw: np.ndarray) -> np.ndarray:
        """Return the ids of the most probable classes, shape (rows,)."""
        return raw.argmax(axis=1)

    def answers(self, raw: np.ndarray) -> dict[str, list[Any]]:
        """Return ``prediction`` and its calibrated ``probability``."""
        chosen = self.decide(raw)
        return {
            "prediction": self.truth(chosen),
            "probability": self.calibrated(raw)[np.arange(len(chosen)), chosen].tolist(),
        }

    def top(self, raw: np.ndarray, count: int) -> dict[str, list[Any]]:
        """Return the most probable classes of each row; ties are in class order."""
        return top_classes(self.names, self.calibrated(raw), count)

    def answer(self, raw: np.ndarray, most: int) -> Answer:
        """Return the predicted and the most probable classes."""
        values, chosen = self.calibrated(raw[None])[0], int(self.decide(raw[None])[0])
        order = np.argsort(-values, kind="stable")[:most]
        bars = [Bar(self.names[i], float(values[i]), i == chosen) for i in order]
        return Answer(self.names[chosen], bars, len(values) - len(bars))

    def truth(self, truth: np.ndarray) -> list[Any]:
        """Return class names."""
        return [self.names[int(i)] for i in truth]

    def read_truth(self, cells: list[Any]) -> np.ndarray:
        """Return class ids from names, shape (rows,)."""
        ids = {name: index for index, name in enumerate(self.names)}
        return np.array([ids[cell] for cell in cells])

    def in_order(self, names: list[str], raw: np.ndarray, truth: np.ndarray) -> tuple[Self, np.ndarray, np.ndarray]:
        """Return the same predictions with the classes in another order."""
        order = [self.names.index(name) for name in names]
        return replace(self, names=list(names)), raw[:, order], np.argsort(order)[truth]


def confusion(names: list[str], truth: np.ndarray, answered: np.ndarray) -> Section:
    """Return the confusion matrix and the most confused pairs.

    Args:
        names: the classes.
        truth: true ids, shape (rows,).
        answered: predicted ids, shape (rows,).

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


def _precision_recall_f1(
    in_class: np.ndarray, of_class: np.ndarray, hits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return recall, precision and F1 from true, predicted and correctly predicted rows of each class."""
    ratio = ranking.ratio
    return ratio(hits, in_class), ratio(hits, of_class), ratio(2 * hits, in_class + of_class)


def _mean_where(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    return np.where(present, values, 0).sum(axis=0) / present.sum(axis=0)


def _matthews(hits: np.ndarray, true: np.ndarray, answered: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return Gorodkin's multi-class correlation; 0 if only one class is true or predicted."""
    together = hits.sum(axis=0) * total - (true * answered).sum(axis=0)
    spread = (total**2 - np.square(answered).sum(axis=0)) * (total**2 - np.square(true).sum(axis=0))
    return ranking.ratio(together, np.sqrt(spread))
