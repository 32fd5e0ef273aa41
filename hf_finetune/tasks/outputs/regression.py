"""Numbers: errors, explained variance and correlations; standardised while the model trains."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from datasets import Dataset

from hf_finetune.config import Config
from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.splits.splits import spaced
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs import ranking
from hf_finetune.tasks.outputs.linear_models import ridge_regression
from hf_finetune.tasks.outputs.logits import LogitOutput, RowStatistics
from hf_finetune.tasks.outputs.output import Answer, Floor
from hf_finetune.tasks.outputs.reading import NUMBERS, encode_columns, have_fractions, number, refuse_delimiter

MOST_POINTS = 2000  # per scatter plot


@dataclass(frozen=True)
class RegressionStatistics(RowStatistics):
    """True (``labels``) and predicted numbers (``values``) for the metrics, both of shape (rows, targets)."""

    values: np.ndarray
    class_rows: ClassVar[None] = None

    @cached_property
    def errors(self) -> np.ndarray:
        """Return predicted minus true numbers, shape (targets, rows)."""
        return (self.values - self.labels).T

    @cached_property
    def moments(self) -> np.ndarray:
        """Return true and predicted numbers, their squares and their product; shape (targets, 5, rows)."""
        # Large offsets would cost precision.
        true, found = ((each - np.median(each, axis=0)).T for each in (self.labels, self.values))
        return np.stack([true, found, true * true, found * found, true * found], axis=1)

    @cached_property
    def ranks(self) -> list[tuple[Any, Any]]:
        """Return the rank functions of true and predicted numbers, per target."""
        pairs = zip(self.labels.T, self.values.T, strict=True)
        return [(ranking.mid_ranks(true), ranking.mid_ranks(found)) for true, found in pairs]


@dataclass(frozen=True)
class Regression(LogitOutput):
    """Numbers; raw outputs and truth have the shape (rows, targets)."""

    # Mean and deviation of each target over the training rows, while training on standardised numbers.
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)

    NAME: ClassVar[str] = "regression"
    METRICS: ClassVar[dict[str, bool]] = {
        "rmse": False, "mae": False, "r2": True, "pearson": True, "spearman": True, "mse": False, "loss": False,
    }  # fmt: skip
    CARD_METRICS: ClassVar[tuple[str, ...]] = ("rmse", "mae", "r2", "pearson", "spearman")
    HUB_METRICS: ClassVar[dict[str, str]] = {"pearson": "pearsonr", "spearman": "spearmanr", "rmse": "rmse"}
    FLOOR: ClassVar[Floor] = Floor("mean", "rmse", "RMSE of always answering the mean")
    HAS_CLASSES: ClassVar[bool] = False
    ONE_CLASS: ClassVar[bool] = False
    SMALLEST_SCALE: ClassVar[float] = 0.0  # the units are the user's
    LINEAR_MODEL: ClassVar[str] = "ridge regression"
    PIPELINE_OPTIONS: ClassVar[dict[str, Any]] = {"function_to_apply": "none"}
    fit_linear = staticmethod(ridge_regression)
    ONNX_CODE: ClassVar[str] = """\
for row in logits:
    print({config.id2label[i]: float(number) for i, number in enumerate(row)})"""

    @classmethod
    def recognise(cls, train: Dataset, columns: list[str], options: DataConfig) -> bool:
        """Return whether there are several columns, or one of numbers with fractions; print the decision."""
        if len(columns) > 1:
            return True
        found = have_fractions(train, columns[0])
        if found:
            say(f"Column {columns[0]!r} holds numbers with fractions: regression (--problem_type names another kind).")
        return found

    @classmethod
    def read(cls, train: Dataset, columns: list[str], options: DataConfig) -> Self:
        refuse_delimiter(cls.NAME, options)
        return cls(columns, columns=columns)

    def unusable(self, split: Dataset) -> list[tuple[np.ndarray, str]]:
        """Return the rows with a target that is not a finite number."""
        return [
            (np.array([number(value) is None for value in split[c][:]], dtype=bool), f"no number in column {c!r}")
            for c in self.columns
            if c in split.column_names
        ]

    def encode(self, split: Dataset, split_name: str) -> list[Any]:
        return encode_columns(split, self.columns, split_name, NUMBERS)

    def describe(self) -> str:
        return f"{len(self.names)} numbers (regression)" if len(self.names) > 1 else "a number (regression)"

    def spell(self, label: Any) -> str:
        return ", ".join(f"{number:g}" for number in label)

    def strata(self, truth: np.ndarray) -> np.ndarray:
        """Return the decile of each row's first number."""
        edges = np.quantile(truth[:, 0], np.linspace(0, 1, min(10, len(truth) // 2 or 1) + 1)[1:-1])
        return np.searchsorted(edges, truth[:, 0], side="right")

    def summary(self, splits: Splits) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Return rows, minimum, median, mean, maximum and standard deviation of each target in each split."""
        rows = []
        for name, split in splits.items():
            for target, column in zip(self.names, self.truth_of(split).T, strict=True):
                figures = (column.min(), np.median(column), column.mean(), column.max(), column.std())
                rows.append((name, f"{len(split):,}", target, *(f"{figure:.4g}" for figure in figures)))
        return ("split", "rows", "target", "lowest", "median", "mean", "highest", "deviation"), rows

    def check(self, section: Any, splits: Splits) -> None:
        """Add the range of each target, and an error if a target is constant."""
        columns, rows = self.summary(splits)
        section.table("", columns, rows)
        section.facts["targets"] = [dict(zip(columns, row, strict=True)) for row in rows]
        for target, column in zip(self.names, self.truth_of(splits.train).T, strict=True):
            if column.std() == 0:
                error = _constant(target, column[0])
                section.add("target-constant", "error", error.what, where=error.where, fix=error.fix)
            heights, edges = np.histogram(column, bins=min(20, max(2, len(np.unique(column)))))
            names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
            bars = list(zip(names, heights.tolist(), strict=True))
            section.table(f"Training rows by {target}", ("value", "rows"), bars, bars=True)

    def for_training(self, truth: np.ndarray) -> Self:
        """Return the output with standardised numbers, so that learning rates work for any units."""
        mean, std = truth.mean(axis=0).tolist(), truth.std(axis=0).tolist()
        for name, middle, spread in zip(self.names, mean, std, strict=True):
            if spread == 0:
                raise _constant(name, middle)
        return replace(self, mean=mean, std=std)

    def loss(self, config: Config, splits: Splits) -> Any:
        from hf_finetune.tasks.outputs.losses import RegressionLoss, refuse_options

        refuse_options(config, classes=False)
        return RegressionLoss(self.mean, self.std)

    def finish(self, model: Any) -> None:
        from hf_finetune.models import rescale_head

        rescale_head(model, self.mean, self.std)

    def decide(self, raw: np.ndarray) -> np.ndarray:
        """Return the numbers in the units of the labels, shape (rows, targets)."""
        return raw.astype(np.float64) * np.array(self.std or 1.0) + np.array(self.mean or 0.0)

    def statistics(self, raw: np.ndarray, truth: np.ndarray) -> RegressionStatistics:
        return RegressionStatistics(truth, self.decide(raw))

    def score(self, statistics: RegressionStatistics, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every metric of weighted rows, each the mean over the targets.

        ``rmse``, ``mae``, ``mse`` and ``loss`` (equal to ``mse``) are in the units of the labels. ``r2`` is undefined for a
        constant target, ``pearson`` and ``spearman`` also for constant predictions.
        """
        return {name: each.mean(axis=0) for name, each in _by_target(statistics, weights).items()}

    def per_label(self, statistics: RegressionStatistics) -> dict[str, dict[str, float]]:
        found = _by_target(statistics, np.ones((1, len(statistics))))
        return {
            name: {key: float(each[i, 0]) for key, each in found.items() if not np.isnan(each[i, 0])}
            for i, name in enumerate(self.names)
        }

    def row_losses(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return the mean absolute error of each row over the targets, in standard deviations of the labels."""
        spread = truth.std(axis=0)
        return (np.abs(self.decide(raw) - truth) / np.where(spread > 0, spread, 1)).mean(axis=1)

    def wrong(self, raw: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return True for every row: predictions are never exact."""
        return np.ones(len(truth), dtype=bool)

    def constant(self, truth: np.ndarray) -> np.ndarray:
        return np.tile((truth.mean(axis=0) - np.array(self.mean or 0.0)) / np.array(self.std or 1.0), (len(truth), 1))

    def sections(self, raw: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """Return ``numbers``: true and predicted numbers of each target, for at most 2,000 rows."""
        rows, values = spaced(len(truth), MOST_POINTS), self.decide(raw)
        return {
            "numbers": [
                {"name": name, "labels": truth[rows, i].tolist(), "predictions": values[rows, i].tolist()}
                for i, name in enumerate(self.names)
            ]
        }

    def answers(self, raw: np.ndarray) -> dict[str, list[Any]]:
        return {"prediction": self.truth(self.decide(raw))}

    def answer(self, raw: np.ndarray, most: int) -> Answer:
        values = self.decide(raw)
        if len(self.names) == 1:
            return Answer(f"{values[0]:.6g}", [])
        return Answer("; ".join(f"{n}: {v:.6g}" for n, v in zip(self.names, values, strict=True)), [])

    def truth(self, truth: np.ndarray) -> list[Any]:
        return truth[:, 0].tolist() if len(self.names) == 1 else truth.tolist()

    def read_truth(self, cells: list[Any]) -> np.ndarray:
        numbers: np.ndarray = np.array(list(cells), dtype=np.float64) if len(self.names) == 1 else np.stack(cells)
        return numbers.reshape(len(cells), -1)


def _constant(target: str, value: float) -> UserError:
    return UserError(
        f"all training rows hold {value:g}: there is nothing to learn",
        where=f"column {target!r}",
        fix="name another column with --label_column or --label_columns.",
    )


def _by_target(statistics: RegressionStatistics, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return metric → values of shape (targets, resamples)."""
    weights = ranking.by_row(weights)
    total = weights.sum(axis=0)
    mse = np.square(statistics.errors) @ weights / total
    found: dict[str, list[np.ndarray]] = {"r2": [], "pearson": [], "spearman": []}
    for error, moments, ranks in zip(mse, statistics.moments @ weights, statistics.ranks, strict=True):
        (true_places, one_label), (places, one_value) = (rank(weights) for rank in ranks)
        true, values, true_squares, squares, products = moments
        spread, value_spread = true_squares - true**2 / total, squares - values**2 / total
        spread = np.where(one_label | (spread <= 0), np.nan, spread)
        value_spread = np.where(one_value | (value_spread <= 0), np.nan, value_spread)
        correlation = ranking.rank_correlation(places, true_places, weights, total)
        found["r2"].append(1 - error * total / spread)
        found["pearson"].append((products - true * values / total) / np.sqrt(spread * value_spread))
        found["spearman"].append(np.where(one_label | one_value, np.nan, correlation))
    errors = {"rmse": np.sqrt(mse), "mae": np.abs(statistics.errors) @ weights / total, "mse": mse, "loss": mse}
    return errors | {name: np.stack(values) for name, values in found.items()}
