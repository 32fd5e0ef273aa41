"""Several classes per row, or none: sigmoid probabilities, F1 and average precision, a threshold for each class."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from datasets import Dataset
from scipy.special import expit

from hf_finetune.config import Config
from hf_finetune.config.options import DataConfig
from hf_finetune.data import Splits
from hf_finetune.data.rows.labels import refuse_unknown
from hf_finetune.tasks.outputs import ranking, reading
from hf_finetune.tasks.outputs.calibration import calibration
from hf_finetune.tasks.outputs.class_counts import check_several_classes_per_row
from hf_finetune.tasks.outputs.classes import ClassOutput, ClassStatistics
from hf_finetune.tasks.outputs.linear_models import one_vs_rest
from hf_finetune.tasks.outputs.output import Floor, Section


class MultiLabelStatistics(ClassStatistics):
    """The data of each row for the metrics; ``chosen`` and ``labels`` are 0 and 1, shape (rows, classes)."""

    @cached_property
    def by_row(self) -> np.ndarray:
        """Return F1, exact match, share of wrong classes and loss of each row, shape (4, rows)."""
        labels, chosen = self.labels, self.chosen
        clipped = np.clip(self.probabilities, 1e-12, 1 - 1e-12)
        both, either = (labels * chosen).sum(axis=1), labels.sum(axis=1) + chosen.sum(axis=1)
        return np.stack(
            [
                np.where(either, 2 * both / np.maximum(either, 1), 1),
                (labels == chosen).all(axis=1),
                (labels != chosen).mean(axis=1),
                -(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)).mean(axis=1),
            ]
        )

    @cached_property
    def decisions(self) -> ranking.Ranked:
        """Return the ranking of the probabilities of all classes of all rows."""
        rows, classes = self.labels.shape
        own = np.repeat(np.arange(rows), classes)
        return ranking.rank_scores(self.probabilities.ravel(), self.labels.ravel() > 0, own, rows)


@dataclass(frozen=True)
class MultiLabel(ClassOutput):
    """Several classes per row; raw outputs are logits, truth is 0 and 1, both of shape (rows, classes).

    The label columns are one of lists or texts, or one of 0 and 1 per class.
    """

    thresholds: list[float] = field(default_factory=list)  # probability from which a class is predicted; 0.5 if empty
    delimiter: str | None = field(default=None, kw_only=True)  # of the classes in a text

    NAME: ClassVar[str] = "multi_label_classification"
    # The first one needs no thresholds, because it chooses the epoch on which thresholds are tuned.
    METRICS: ClassVar[dict[str, bool]] = {
        "average_precision": True, "f1_micro": True, "f1_macro": True, "f1_samples": True, "precision_micro": True,
        "recall_micro": True, "accuracy": True, "hamming_loss": False, "auroc": True, "loss": False,
    }  # fmt: skip
    CLASS_MEANS: ClassVar[frozenset[str]] = frozenset({"f1_macro", "auroc"})
    SHARES: ClassVar[frozenset[str]] = frozenset(METRICS) - {"loss"}
    CARD_METRICS: ClassVar[tuple[str, ...]] = ("accuracy", "f1_macro", "f1_micro", "average_precision", "auroc")
    FLOOR: ClassVar[Floor] = Floor("majority", "f1_micro", "micro F1 of always answering the most frequent class")
    ONE_CLASS: ClassVar[bool] = False
    TUNED: ClassVar[dict[str, str]] = {"thresholds": "thresholds"}
    PIPELINE_OPTIONS: ClassVar[dict[str, Any]] = {"top_k": None}
    fit_linear = staticmethod(one_vs_rest)
    ONNX_CODE: ClassVar[str] = """\
probabilities = 1 / (1 + np.exp(-logits))
thresholds = np.array(getattr(config, "thresholds", None) or [0.5] * logits.shape[1])
for row in probabilities:
    print([(config.id2label[int(i)], row[i]) for i in np.flatnonzero(row >= thresholds)])"""

    @classmethod
    def recognise(cls, train: Dataset, columns: list[str], options: DataConfig) -> bool:
        """Return whether there are several columns of 0 and 1, one of lists, or one of texts with a delimiter."""
        if len(columns) > 1:
            return all(reading.are_flags(train, column) for column in columns)
        return bool(options.label_delimiter) or reading.are_lists(train, columns[0])

    @classmethod
    def read(cls, train: Dataset, columns: list[str], options: DataConfig) -> Self:
        """Return the output with the classes of the training rows in natural order, or the names of several columns."""
        if len(columns) > 1:
            return cls(columns, columns=columns)
        names = reading.several_names(train, columns[0], options.label_delimiter)
        return cls(names, columns=columns, delimiter=options.label_delimiter)

    def read_from(self, columns: list[str], options: DataConfig) -> Self:
        return replace(self, columns=columns, delimiter=options.label_delimiter)

    def encode(self, split: Dataset, split_name: str) -> list[Any]:
        if len(self.columns) > 1:
            return reading.encode_columns(split, self.columns, split_name, reading.FLAGS)
        cells = reading.classes_of_rows(split, self.columns[0], self.delimiter)
        refuse_unknown(cells, set(self.names), self.columns[0], split_name)
        return self.read_truth(cells).tolist()

    def describe(self) -> str:
        return f"{super().describe()}, several a row"

    def spell(self, label: Any) -> str:
        return ", ".join(name for name, has in zip(self.names, label, strict=True) if has) or "no class"

    def class_counts(self, truth: np.ndarray) -> np.ndarray:
        """Return the rows of each class; a row counts for each of its classes."""
        return truth.sum(axis=0).astype(np.int64)

    def strata(self, truth: np.ndarray) -> np.ndarray:
        """Return the rarest class of each row, -1 for none."""
        rarity = np.where(truth > 0, truth.sum(axis=0), np.inf)
        return np.where(truth.any(axis=1), rarity.argmin(axis=1), -1)

    def check(self, section: Any, splits: Splits) -> None:
        super().check(section, splits)
        check_several_classes_per_row(section, splits)

    def start(self, model: Any, config: Config, splits: Splits) -> None:
        """Set the bias of a fresh head to the log-odds of each class."""
        from hf_finetune.models import set_head_bias
        from hf_finetune.tasks.outputs.losses import positive_weights, prior_logits

        counts, rows = splits.class_counts("train"), len(splits.train)
        weights = positive_weights(counts, rows) if config.run.class_weights == "balanced" else None
        set_head_bias(model, prior_logits(counts, rows, weights))

    def loss(self, config: Config, splits: Splits) -> Any:
        from hf_finetune.tasks.outputs import losses

        losses.refuse_options(config, classes=True)
        balanced = losses.positive_weights(splits.class_counts("train"), len(splits.train))
        weights = losses.class_options(self.names, config, balanced)
        return losses.MultiLabelLoss(weights, config.run.focal_gamma)

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        return expit(raw.astype(np.float64))

    @property
    def cuts(self) -> np.ndarray:
        return np.array(self.thresholds or [0.5] * len(self.names))

    def statistics(self, raw: np.ndarray, truth: np.ndarray) -> MultiLabelStatistics:
        return MultiLabelStatistics(truth.astype(np.int64), self.decide(raw), self.probabilities(raw))

    def score(self, statistics: MultiLabelStatistics, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every metric of weighted rows.

        ``average_precision`` is micro-averaged. ``accuracy`` is the share of rows with all classes right. ``auroc`` is the
        mean over classes, undefined if one has no rows, or all rows.
        """
        weights = ranking.by_row(weights)
        total = weights.sum(axis=0)
        f1_samples, all_right, wrong, loss = statistics.by_row @ weights / total
        in_class, of_class, both = (matrix @ weights for matrix in statistics.by_class)
        present, answered, hits = (each.sum(axis=0) for each in (in_class, of_class, both))
        return {
            "average_precision": ranking.average_precision(statistics.decisions, weights),
            "f1_micro": ranking.ratio(2 * hits, answered + present),
            "f1_macro": ranking.ratio(2 * both, in_class + of_class).mean(axis=0),
            "f1_samples": f1_samples,
            "precision_micro": ranking.ratio(hits, answered),
            "recall_micro": ranking.ratio(hits, present),
            "accuracy": all_right,
            "hamming_loss": wrong,
            "auroc": statistics.area_under_roc(weights, total),
            "loss": loss,
        }

    def row_losses(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return the mean binary cross-entropy of each row over the classes."""
        each = np.logaddexp(0, raw.astype(np.float64)) - truth * raw
        return each.mean(axis=1)

    def constant(self, truth: np.ndarray) -> np.ndarray:
        """Return logits that predict only the most frequent class."""
        raw = np.full(truth.shape, -20.0)
        raw[:, truth.sum(axis=0).argmax()] = 20
        return raw

    def sections(self, raw: np.ndarray, truth: np.ndarray) -> dict[str, Section]:
        """Return ``calibration`` over every class of every row."""
        before = calibration(self.probabilities(raw), truth)
        return {"calibration": {"temperature": None, "before": before, "after": None}}

    def tune(self, raw: np.ndarray, truth: np.ndarray, metric: str | None) -> Self:
        """Return the output with thresholds tuned on these rows, one per class if ``metric`` is ``f1_macro``."""
        return replace(self, thresholds=tune_thresholds(self.probabilities(raw), truth, each=metric == "f1_macro"))

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

    def truth(self, truth: np.ndarray) -> list[Any]:
        return [[self.names[i] for i in np.flatnonzero(row)] for row in truth]

    def read_truth(self, cells: list[Any]) -> np.ndarray:
        ids = {name: index for index, name in enumerate(self.names)}
        found = np.zeros((len(cells), len(ids)))
        for row, cell in enumerate(cells):
            found[row, [ids[name] for name in cell]] = 1
        return found

    def in_order(self, names: list[str], raw: np.ndarray, truth: np.ndarray) -> tuple[Self, np.ndarray, np.ndarray]:
        cuts = dict(zip(self.names, self.cuts.tolist(), strict=True))
        output, raw, truth = super().in_order(names, raw, truth)
        return replace(output, thresholds=[cuts[name] for name in names]), raw, truth


def tune_thresholds(probabilities: np.ndarray, labels: np.ndarray, *, each: bool = False) -> list[float]:
    """Return the threshold of each class with the best F1 on held-out rows.

    One threshold for all classes gives the best micro F1; ``each`` gives one per class, which is best for macro F1 and
    predicts rare classes more often. Classes with fewer than five rows then get the common threshold. A threshold is
    midway between two probabilities, so that rounding errors change no prediction. Both arrays are (rows, classes).
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
