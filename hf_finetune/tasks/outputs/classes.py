"""What outputs of one and of several classes per row have in common: statistics, figures of each class, answers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_matrix

from hf_finetune.tasks.outputs import ranking
from hf_finetune.tasks.outputs.class_counts import check_classes, class_notes, class_table
from hf_finetune.tasks.outputs.logits import LogitOutput, RowStatistics
from hf_finetune.tasks.outputs.output import Answer, Bar


@dataclass(frozen=True)
class ClassStatistics(RowStatistics):
    """The data of each row for the metrics; ``labels`` are ids, shape (rows,), or 0 and 1, shape (rows, classes)."""

    chosen: np.ndarray  # the predictions, in the form of the labels
    probabilities: np.ndarray  # shape (rows, classes)

    @property
    def class_rows(self) -> np.ndarray:
        return self.by_class[0].getnnz(axis=1)

    @cached_property
    def by_class(self) -> tuple[csr_matrix, csr_matrix, csr_matrix]:
        """Return the true, the predicted and the correctly predicted rows of each class, each of shape (classes, rows)."""
        true, chosen = self._rows_of_classes(self.labels), self._rows_of_classes(self.chosen)
        return true, chosen, true.multiply(chosen).tocsr()

    def _rows_of_classes(self, values: np.ndarray) -> csr_matrix:
        if values.ndim == 2:
            return csr_matrix(values.T, dtype=float)
        return csr_matrix((np.ones(len(values)), (values, np.arange(len(values)))), self.probabilities.shape[::-1])

    @cached_property
    def ranked(self) -> list[ranking.Ranked]:
        """Return the ranking of each class (of two exclusive ones, the second); none if a class has no rows, or all rows."""
        counts, classes = self.class_rows, self.probabilities.shape[1]
        if not (counts.all() and (counts < len(self)).all()):
            return []
        return [
            ranking.rank_scores(self.probabilities[:, i], self.by_class[0][i].toarray()[0] > 0)
            for i in ([1] if classes == 2 and self.labels.ndim == 1 else range(classes))
        ]

    def area_under_roc(self, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Return the mean area over the classes, shape (resamples,); see :func:`ranking.area_under_roc`."""
        areas = [ranking.area_under_roc(ranked, weights, total) for ranked in self.ranked]
        return np.mean(areas, axis=0) if areas else np.full(len(total), np.nan)


@dataclass(frozen=True)
class ClassOutput(LogitOutput):
    """The common part of outputs with classes. Subclasses define ``probabilities``, ``decide`` and ``truth``."""

    HUB_METRICS: ClassVar[dict[str, str]] = {"accuracy": "accuracy", "f1_macro": "f1"}
    HAS_CLASSES: ClassVar[bool] = True
    SMALLEST_SCALE: ClassVar[float] = 1.0
    LINEAR_MODEL: ClassVar[str] = "logistic regression"

    summary = staticmethod(class_table)
    notes = staticmethod(class_notes)
    check = staticmethod(check_classes)

    def describe(self) -> str:
        return f"{len(self.names)} classes"

    @abstractmethod
    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """Return the probabilities for metrics, shape (rows, classes)."""

    def calibrated(self, raw: np.ndarray) -> np.ndarray:
        """Return the probabilities for users, shape (rows, classes)."""
        return self.probabilities(raw)

    @property
    def cuts(self) -> np.ndarray | None:
        """Return the threshold of each class, shape (classes,); None if the most probable class is predicted."""
        return None

    def per_label(self, statistics: ClassStatistics) -> dict[str, dict[str, float]]:
        """Return ``precision``, ``recall``, ``f1``, ``support`` and, if there is one, ``threshold`` of each class."""
        in_class, of_class, hits = (matrix @ np.ones(len(statistics)) for matrix in statistics.by_class)
        recall, precision, f1 = recall_precision_f1(in_class, of_class, hits)
        figures = {"precision": precision, "recall": recall, "f1": f1, "support": in_class}
        if self.cuts is not None:
            figures["threshold"] = self.cuts
        return {name: {key: float(f[i]) for key, f in figures.items()} for i, name in enumerate(self.names)}

    def wrong(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return (self.decide(raw) != truth).reshape(len(truth), -1).any(axis=1)

    def top(self, raw: np.ndarray, count: int) -> dict[str, list[Any]]:
        """Return the most probable classes of each row, all if there are fewer; ties are in class order."""
        probabilities = self.calibrated(raw)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
        return {
            "top_labels": [[self.names[i] for i in row] for row in order],
            "top_probabilities": np.take_along_axis(probabilities, order, axis=1).tolist(),
        }

    def answer(self, raw: np.ndarray, most: int) -> Answer:
        values, (answered,) = self.calibrated(raw[None])[0], self.truth(self.decide(raw[None]))
        chosen = [answered] if isinstance(answered, str) else answered
        cuts = [None] * len(values) if self.cuts is None else self.cuts.tolist()
        order = np.argsort(-values, kind="stable")
        bars = [Bar(self.names[i], float(values[i]), self.names[i] in chosen, cuts[i]) for i in order]
        return Answer(", ".join(bar.name for bar in bars if bar.chosen), bars[:most], max(0, len(bars) - most))


def recall_precision_f1(
    in_class: np.ndarray, of_class: np.ndarray, hits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return recall, precision and F1 from true, predicted and correctly predicted rows of each class."""
    ratio = ranking.ratio
    return ratio(hits, in_class), ratio(hits, of_class), ratio(2 * hits, in_class + of_class)
