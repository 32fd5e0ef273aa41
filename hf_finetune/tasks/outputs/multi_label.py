"""Several classes per row, or none: sigmoid probabilities, F1 and average precision, a threshold for each class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_matrix

from hf_finetune.tasks.outputs import ranking
from hf_finetune.tasks.outputs.calibration import calibration
from hf_finetune.tasks.outputs.class_counts import check_classes, check_classes_per_row, class_notes, class_table
from hf_finetune.tasks.outputs.linear_models import one_vs_rest
from hf_finetune.tasks.outputs.logits import LogitOutput, sigmoid, top_classes
from hf_finetune.tasks.outputs.output import Answer, Bar, Floor, Section
from hf_finetune.tasks.outputs.reading import are_flags, are_lists, encode_flags, encode_several, is_list, several_names

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_finetune.config import Config
    from hf_finetune.config.options import DataConfig
    from hf_finetune.data import Splits


@dataclass(frozen=True)
class MultiLabelStatistics:
    """The data of each row for the metrics; all of shape (rows, classes).

    Args:
        probabilities: independent probability of each class.
        chosen: 0 and 1, the predicted classes.
        labels: 0 and 1, the true classes.
    """

    probabilities: np.ndarray
    chosen: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> MultiLabelStatistics:
        return MultiLabelStatistics(self.probabilities[rows], self.chosen[rows], self.labels[rows])

    @property
    def size(self) -> int:
        """Return the number of rows times classes."""
        return self.labels.size

    @cached_property
    def class_rows(self) -> np.ndarray:
        """Return the rows of each class, shape (classes,)."""
        return self.labels.sum(axis=0)

    @cached_property
    def by_row(self) -> np.ndarray:
        """Return F1, exact match, share of wrong classes, loss, hits, predicted and true classes; shape (7, rows)."""
        labels, chosen = self.labels, self.chosen
        clipped = np.clip(self.probabilities, 1e-12, 1 - 1e-12)
        hits, answered, present = (labels * chosen).sum(axis=1), chosen.sum(axis=1), labels.sum(axis=1)
        return np.stack(
            [
                np.where(answered + present, 2 * hits / np.maximum(answered + present, 1), 1),
                (labels == chosen).all(axis=1),
                (labels != chosen).mean(axis=1),
                -(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)).mean(axis=1),
                hits, answered, present,
            ]
        )  # fmt: skip

    @cached_property
    def by_class(self) -> tuple[csr_matrix, csr_matrix, csr_matrix]:
        """Return the true, the predicted and the correctly predicted rows of each class, each of shape (classes, rows)."""
        parts = (self.labels, self.chosen, self.labels * self.chosen)
        labels, chosen, both = (csr_matrix(part.T, dtype=float) for part in parts)
        return labels, chosen, both

    @cached_property
    def decisions(self) -> ranking.Ranked:
        """Return the ranking of the probabilities of all classes of all rows."""
        rows, classes = self.labels.shape
        own = np.repeat(np.arange(rows), classes)
        return ranking.rank_scores(self.probabilities.ravel(), self.labels.ravel() > 0, own, rows)

    @cached_property
    def ranked(self) -> list[ranking.Ranked]:
        """Return the ranking of each class's probabilities; an empty list if a class has no rows, or all rows."""
        if not (self.class_rows.all() and (self.class_rows < len(self)).all()):
            return []
        return [ranking.rank_scores(p, t > 0) for p, t in zip(self.probabilities.T, self.labels.T, strict=True)]


@dataclass(frozen=True)
class MultiLabel(LogitOutput):
    """Several classes per row; raw outputs are logits, truth is 0 and 1, both of shape (rows, classes).

    Args:
        names: the classes.
        thresholds: probability from which each class is predicted; 0.5 if empty.
        columns: the label columns: one of lists or texts, or one of 0 and 1 per class.
        delimiter: separator of the classes in a text.
    """

    names: list[str]
    thresholds: list[float] = field(default_factory=list)
    columns: list[str] = field(default_factory=list, kw_only=True)
    delimiter: str | None = field(default=None, kw_only=True)

    NAME: ClassVar[str] = "multi_label_classification"
    # The first one needs no thresholds, because it chooses the epoch on which thresholds are tuned.
    METRICS: ClassVar[dict[str, bool]] = {
        "average_precision": True, "f1_micro": True, "f1_macro": True, "f1_samples": True, "precision_micro": True,
        "recall_micro": True, "accuracy": True, "hamming_loss": False, "auroc": True, "loss": False,
    }  # fmt: skip
    CLASS_MEANS: ClassVar[frozenset[str]] = frozenset({"f1_macro", "auroc"})
    SHARES: ClassVar[frozenset[str]] = frozenset(METRICS) - {"loss"}
    CARD_METRICS: ClassVar[tuple[str, ...]] = ("accuracy", "f1_macro", "f1_micro", "average_precision", "auroc")
    HUB_METRICS: ClassVar[dict[str, str]] = {"accuracy": "accuracy", "f1_macro": "f1"}
    FLOOR: ClassVar[Floor] = Floor("majority", "f1_micro", "micro F1 of always answering the most frequent class")
    HAS_CLASSES: ClassVar[bool] = True
    ONE_CLASS: ClassVar[bool] = False
    SMALLEST_SCALE: ClassVar[float] = 1.0
    LINEAR_MODEL: ClassVar[str] = "logistic regression"
    PIPELINE_OPTIONS: ClassVar[dict[str, Any]] = {"top_k": None}
    ONNX_CODE: ClassVar[str] = """\
probabilities = 1 / (1 + np.exp(-logits))
thresholds = np.array(getattr(config, "thresholds", None) or [0.5] * logits.shape[1])
for row in probabilities:
    print([(config.id2label[int(i)], row[i]) for i in np.flatnonzero(row >= thresholds)])"""

    # Labels

    @classmethod
    def recognise(cls, train: Dataset, columns: list[str], options: DataConfig) -> bool:
        """Return whether there are several columns of 0 and 1, one of lists, or one of texts with a delimiter."""
        if len(columns) > 1:
            return all(are_flags(train, column) for column in columns)
        column = columns[0]
        return bool(options.label_delimiter) or is_list(train.features[column]) or are_lists(train, column)

    @classmethod
    def read(cls, train: Dataset, columns: list[str], options: DataConfig) -> Self:
        """Return the output with the classes of the training rows in natural order, or the names of several columns.

        Raises:
            UserError: fewer than two classes.
        """
        if len(columns) > 1:
            return cls(columns, columns=columns)
        names = several_names(train, columns[0], options.label_delimiter)
        return cls(names, columns=columns, delimiter=options.label_delimiter)

    @classmethod
    def restore(cls, names: list[str], tuned: dict[str, Any]) -> Self:
        """Return the output of a saved model."""
        return cls(names, list(tuned.get("thresholds") or []))

    def read_from(self, columns: list[str], options: DataConfig) -> Self:
        """Return the same output, whose labels are in these columns."""
        return replace(self, columns=columns, delimiter=options.label_delimiter)

    def encode(self, split: Dataset, split_name: str) -> list[Any]:
        """Return 0.0 or 1.0 for each class of every row; see :meth:`Output.encode`."""
        if len(self.columns) > 1:
            return encode_flags(split, self.columns, split_name)
        return encode_several(split, self.columns[0], self.names, self.delimiter, split_name)

    def describe(self) -> str:
        """Return the number of classes, in words."""
        return f"{len(self.names)} classes, several a row"

    def spell(self, label: Any) -> str:
        """Return the names of the classes of a row."""
        return ", ".join(name for name, has in zip(self.names, label, strict=True) if has) or "no class"

    def class_counts(self, truth: np.ndarray) -> np.ndarray:
        """Return the rows of each class; a row counts for each of its classes."""
        return truth.sum(axis=0).astype(np.int64)

    def strata(self, truth: np.ndarray) -> np.ndarray:
        """Return the rarest class of each row, -1 for none."""
        rarity = np.where(truth > 0, truth.sum(axis=0), np.inf)
        return np.where(truth.any(axis=1), rarity.argmin(axis=1), -1)

    def summary(self, splits: Splits) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Return rows, classes, the smallest and the largest class of each split."""
        return class_table(splits)

    def notes(self, splits: Splits) -> list[str]:
        """Return a note on classes without training rows."""
        return class_notes(splits)

    def check(self, section: Any, splits: Splits) -> None:
        """Add rows by class, missing and rare classes, and the number of classes per row."""
        check_classes(section, splits)
        check_classes_per_row(section, splits)

    # Training

    def start(self, model: Any, config: Config, splits: Splits) -> None:
        """Set the bias of a fresh head to the log-odds of each class."""
        from hf_finetune.models import set_head_bias
        from hf_finetune.tasks.outputs.losses import positive_weights, prior_logits

        counts, rows = splits.class_counts("train"), len(splits.train)
        weights = positive_weights(counts, rows) if config.run.class_weights == "balanced" else None
        set_head_bias(model, prior_logits(counts, rows, weights))

    def loss(self, config: Config, splits: Splits) -> Any:
        """Return binary cross-entropy with the requested weights and focal factor."""
        from hf_finetune.tasks.outputs.losses import multi_label_loss

        return multi_label_loss(self.names, config, splits)

    # Raw outputs

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """Return the independent probability of each class, shape (rows, classes)."""
        return sigmoid(raw.astype(np.float64))

    @property
    def cuts(self) -> np.ndarray:
        """Return the threshold of each class, shape (classes,)."""
        return np.array(self.thresholds or [0.5] * len(self.names))

    # Scores

    def statistics(self, raw: np.ndarray, truth: np.ndarray) -> MultiLabelStatistics:
        """Return probabilities, predictions and labels."""
        return MultiLabelStatistics(self.probabilities(raw), self.decide(raw), truth.astype(np.int64))

    def score(self, statistics: MultiLabelStatistics, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every metric of weighted rows.

        ``average_precision`` is micro-averaged. ``accuracy`` is the share of rows with all classes right. ``auroc`` is the
        mean over classes, undefined if one has no rows, or all rows.
        """
        weights = ranking.by_row(weights)
        total = weights.sum(axis=0)
        f1_samples, all_right, wrong, loss, hits, answered, present = statistics.by_row @ weights
        in_class, of_class, both = (matrix @ weights for matrix in statistics.by_class)
        areas = [ranking.area_under_roc(ranked, weights, total) for ranked in statistics.ranked]
        return {
            "average_precision": ranking.average_precision(statistics.decisions, weights),
            "f1_micro": ranking.ratio(2 * hits, answered + present),
            "f1_macro": ranking.ratio(2 * both, in_class + of_class).mean(axis=0),
            "f1_samples": f1_samples / total,
            "precision_micro": ranking.ratio(hits, answered),
            "recall_micro": ranking.ratio(hits, present),
            "accuracy": all_right / total,
            "hamming_loss": wrong / total,
            "auroc": np.mean(areas, axis=0) if areas else np.full(len(total), np.nan),
            "loss": loss / total,
        }

    def per_label(self, statistics: MultiLabelStatistics) -> dict[str, dict[str, float]]:
        """Return ``precision``, ``recall``, ``f1``, ``support`` and ``threshold`` of each class."""
        rows = np.ones(len(statistics))
        in_class, of_class, both = (matrix @ rows for matrix in statistics.by_class)
        figures = {
            "precision": ranking.ratio(both, of_class),
            "recall": ranking.ratio(both, in_class),
            "f1": ranking.ratio(2 * both, in_class + of_class),
            "support": in_class,
            "threshold": self.cuts,
        }
        return {name: {key: float(f[i]) for key, f in figures.items()} for i, name in enumerate(self.names)}

    def row_losses(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return the mean binary cross-entropy of each row over the classes."""
        each = np.logaddexp(0, raw.astype(np.float64)) - truth * raw
        return each.mean(axis=1)

    def wrong(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return which rows have a wrong or a missing class."""
        return (self.decide(raw) != truth).any(axis=1)

    def constant(self, truth: np.ndarray) -> np.ndarray:
        """Return logits that predict only the most frequent class."""
        raw = np.full(truth.shape, -20.0)
        raw[:, truth.sum(axis=0).argmax()] = 20
        return raw

    def sections(self, raw: np.ndarray, truth: np.ndarray) -> dict[str, Section]:
        """Return ``calibration`` over every class of every row."""
        before = calibration(self.probabilities(raw), truth)
        return {"calibration": {"temperature": None, "before": before, "after": None}}

    def fit_linear(self, features: Any, truth: np.ndarray, strength: float) -> Callable[[Any], np.ndarray]:
        """Fit binary logistic regression for each class."""
        return one_vs_rest(features, truth, strength)

    # Answers

    def tune(self, raw: np.ndarray, truth: np.ndarray, metric: str | None) -> Self:
        """Return the output with thresholds tuned on these rows, one per class if ``metric`` is ``f1_macro``."""
        return replace(self, thresholds=tune_thresholds(self.probabilities(raw), truth, each=metric == "f1_macro"))

    def tuned(self) -> dict[str, Any]:
        """Return the thresholds."""
        return {"thresholds": self.thresholds}

    def decide(self, raw: np.ndarray) -> np.ndarray:
        """Return 0 or 1 for each class, shape (rows, classes)."""
        return (self.probabilities(raw) >= self.cuts).astype(np.int64)

    def answers(self, raw: np.ndarray) -> dict[str, list[Any]]:
        """Return ``prediction``, a list of names, and ``probability`` of each of them."""
        chosen = self.decide(raw) > 0
        return {
            "prediction": self.truth(chosen),
            "probability": [p[row].tolist() for p, row in zip(self.probabilities(raw), chosen, strict=True)],
        }

    def top(self, raw: np.ndarray, count: int) -> dict[str, list[Any]]:
        """Return the most probable classes of each row; ties are in class order."""
        return top_classes(self.names, self.probabilities(raw), count)

    def answer(self, raw: np.ndarray, most: int) -> Answer:
        """Return the predicted and the most probable classes."""
        values, chosen = self.probabilities(raw[None])[0], self.decide(raw[None])[0] > 0
        order = np.argsort(-values, kind="stable")
        bars = [Bar(self.names[i], float(values[i]), bool(chosen[i]), float(self.cuts[i])) for i in order[:most]]
        return Answer(", ".join(self.names[i] for i in order if chosen[i]), bars, len(values) - len(bars))

    def truth(self, truth: np.ndarray) -> list[Any]:
        """Return lists of class names."""
        return [[self.names[i] for i in np.flatnonzero(row)] for row in truth]

    def read_truth(self, cells: list[Any]) -> np.ndarray:
        """Return 0.0 and 1.0 from lists of class names, shape (rows, classes)."""
        ids = {name: index for index, name in enumerate(self.names)}
        found = np.zeros((len(cells), len(ids)))
        for row, cell in enumerate(cells):
            found[row, [ids[name] for name in cell]] = 1
        return found

    def in_order(self, names: list[str], raw: np.ndarray, truth: np.ndarray) -> tuple[Self, np.ndarray, np.ndarray]:
        """Return the same predictions with the classes in another order."""
        order = [self.names.index(name) for name in names]
        thresholds = [self.thresholds[i] for i in order] if self.thresholds else []
        return replace(self, names=list(names), thresholds=thresholds), raw[:, order], truth[:, order]


def tune_thresholds(probabilities: np.ndarray, labels: np.ndarray, *, each: bool = False) -> list[float]:
    """Return the threshold of each class with the best F1 on held-out rows.

    One threshold for all classes gives the best micro F1; ``each`` gives one per class, which is best for macro F1 and
    predicts rare classes more often. Classes with fewer than five rows then get the common threshold. A threshold is
    midway between two probabilities, so that rounding errors change no prediction.

    Args:
        probabilities: shape (rows, classes).
        labels: 0 and 1, same shape.
        each: whether each class gets its own threshold.
    """
    common = _best_threshold(probabilities.ravel(), labels.ravel())
    return [
        _best_threshold(probabilities[:, i], labels[:, i]) if each and labels[:, i].sum() >= 5 else common
        for i in range(labels.shape[1])
    ]


def _best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(labels[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + max(1, labels.sum()))
    # Rows of equal probability share a prediction: cut only after the last of them.
    cuts = np.append(ranked[1:] < ranked[:-1], True)
    best = int(np.where(cuts, f1, -1).argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)
