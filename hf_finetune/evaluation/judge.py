"""What a model's answers on held-out rows show: metrics with intervals, confusions, calibration, top losses, slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hf_finetune.data.rows.row_metadata import SLICE
from hf_finetune.data.splits.splits import spaced
from hf_finetune.evaluation.baseline import Baseline
from hf_finetune.evaluation.intervals import difference, interval_of, intervals
from hf_finetune.evaluation.show_rows import shown
from hf_finetune.tasks.outputs.calibration import calibration
from hf_finetune.tasks.outputs.confident_learning import suspicious
from hf_finetune.tasks.outputs.targets import MultiLabel, Regression, SingleLabel, Target

MOST_SHOWN = 24  # rows among the top losses, and among the likely label errors
MOST_PAIRS = 10  # of classes that are taken for each other
MOST_CLASSES = 200  # of a confusion matrix
MOST_POINTS = 2000  # of a scatter plot
MOST_VALUES = 30  # of a column that rows are judged by
FEWEST_FOR_ERRORS = 50
Section = dict[str, Any]


@dataclass
class Judged:
    """A split, and what was answered on it.

    Args:
        split: its rows, with ``id``, the input, and ``group`` and ``slice: NAME`` where there are such.
        target: what logits mean.
        logits: shape (rows, labels).
        labels: ids, shape (rows,), or numbers, shape (rows, labels).
    """

    split: Any
    target: Target
    logits: np.ndarray
    labels: np.ndarray

    @cached_property
    def groups(self) -> np.ndarray | None:
        """What rows belong together by, shape (rows,)."""
        return np.asarray(self.split["group"][:]) if "group" in self.split.column_names else None


def judge(
    judged: Judged,
    scores: dict[str, float],
    metric: str,
    baseline: Baseline | None,
    extra: tuple[str, Callable[[np.ndarray], float]] | None = None,
) -> Section:
    """All that the report shows of a split: the part of ``evaluation.json`` that depends on the answers.

    Args:
        judged: rows and answers.
        scores: the metrics of the split.
        metric: the one that the headline shows.
        baseline: what a simple model answers on the same rows.
        extra: name of a metric of the Hub, and what gives it of some rows, by their numbers.
    """
    target, logits, labels = judged.target, judged.logits, judged.labels
    bounds = intervals(target, logits, labels, judged.groups)
    if extra is not None:
        between = interval_of(extra[1], labels, judged.groups)
        bounds |= {} if between is None else {extra[0]: between}
    compared = {} if baseline is None else baseline.target.metrics(baseline.logits, labels)
    losses = target.losses(logits, labels)
    order = np.argsort(-losses, kind="stable")
    wrong = np.ones(len(labels), dtype=bool) if isinstance(target, Regression) else _wrong(target, logits, labels)
    return {
        "rows": len(labels),
        "headline": _headline(judged, scores, metric, bounds, baseline, compared),
        "metrics": [
            {"name": name, "value": scores[name], "interval": bounds.get(name), "baseline": compared.get(name)}
            for name in scores
            if name in target.METRICS or (extra is not None and name == extra[0])
        ],
        "per_label": target.by_label(logits, labels),
        "confusion": confusion(target, logits, labels) if isinstance(target, SingleLabel) else None,
        "calibration": _calibration(target, logits, labels),
        "numbers": _numbers(target, logits, labels) if isinstance(target, Regression) else None,
        "top_losses": _rows(judged, losses, order[wrong[order]][:MOST_SHOWN]),
        "label_errors": _label_errors(judged),
        "slices": slices(judged),
    }


def _wrong(target: Target, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    missed = target.decide(logits) != labels
    return missed.any(axis=1) if missed.ndim == 2 else missed


def _headline(
    judged: Judged,
    scores: dict[str, float],
    metric: str,
    bounds: dict[str, list[float]],
    baseline: Baseline | None,
    compared: dict[str, float],
) -> Section:
    target, labels = judged.target, judged.labels
    always = target.metrics(target.constant(labels), labels)
    kind = "mean" if isinstance(target, Regression) else "majority"
    found: Section = {
        "metric": metric,
        "value": scores[metric],
        "interval": bounds.get(metric),
        "floor": {"name": f"{kind}_{metric}", "value": always[metric]} if metric in always else None,
        "baseline": None,
    }
    if baseline is not None and metric in compared:
        gap = difference(
            target, judged.logits, baseline.logits, labels, judged.groups, metric=metric, b_target=baseline.target
        )
        own = intervals(baseline.target, baseline.logits, labels, judged.groups)
        found["baseline"] = {
            "name": baseline.name,
            "value": compared[metric],
            "interval": own.get(metric),
            "difference": scores[metric] - compared[metric],
            "difference_interval": None if gap is None else [gap.low, gap.high],
        }
    return found | {"verdict": verdict(found, greater=target.METRICS.get(metric, True))}


def verdict(headline: Section, *, greater: bool) -> str:
    """Whether the model beats answering always the same, and the baseline, in words.

    Args:
        headline: with ``metric``, ``interval``, ``floor`` and ``baseline``.
        greater: whether more is better.
    """
    sentences = []
    floor, interval = (headline["floor"] or {}).get("value"), headline["interval"]
    if floor is not None and interval is not None:
        beaten = interval[0] > floor if greater else interval[1] < floor
        if not beaten:
            sentences.append(f"It does not beat answering always the same ({floor:.3f}) beyond the interval.")
    simple = headline["baseline"]
    if simple is not None and simple["difference_interval"] is None:
        sentences.append(f"There are too few rows to compare it with the baseline, {simple['name']}.")
    elif simple is not None:
        low, high = simple["difference_interval"]
        by = f"{abs(simple['difference']):.3f} in {headline['metric']}"
        gap = f"by {by}, 95 % interval of the difference {low:.3f} to {high:.3f}"
        better, worse = (low > 0, high < 0) if greater else (high < 0, low > 0)
        if better:
            sentences.append(f"It beats the baseline, {simple['name']} ({gap}).")
        elif worse:
            sentences.append(f"It is worse than the baseline, {simple['name']} ({gap}).")
        else:
            sentences.append(
                f"It does not beat the baseline, {simple['name']}, beyond the interval "
                f"(difference in {headline['metric']} {simple['difference']:.3f}, 95 % interval {low:.3f} to {high:.3f})."
            )
    elif floor is not None and not sentences:
        sentences.append(f"It beats answering always the same ({floor:.3f}).")
    return " ".join(sentences)


def confusion(target: SingleLabel, logits: np.ndarray, labels: np.ndarray) -> Section:
    """How often each class (row) was answered as each other (column), and the pairs that are most often confused."""
    classes = len(target.names)
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (labels, target.decide(logits)), 1)
    missed = matrix - np.diag(np.diag(matrix))
    pairs = [divmod(int(cell), classes) for cell in np.argsort(-missed, axis=None, kind="stable")[:MOST_PAIRS]]
    return {
        "matrix": matrix.tolist() if classes <= MOST_CLASSES else [],
        "pairs": [
            {
                "label": target.names[true],
                "prediction": target.names[answered],
                "rows": int(missed[true, answered]),
                "share": float(missed[true, answered] / matrix[true].sum()),
            }
            for true, answered in pairs
            if missed[true, answered]
        ],
    }


def _calibration(target: Target, logits: np.ndarray, labels: np.ndarray) -> Section | None:
    if isinstance(target, SingleLabel):
        before, after = (calibration(each(logits), labels) for each in (target.values, target.calibrated))
        return {"temperature": target.temperature, "before": before, "after": after}
    if isinstance(target, MultiLabel):
        return {"temperature": None, "before": calibration(target.values(logits), labels), "after": None}
    return None


def _numbers(target: Regression, logits: np.ndarray, labels: np.ndarray) -> list[Section]:
    rows = spaced(len(labels), MOST_POINTS)
    values = target.values(logits)
    return [
        {"name": name, "labels": labels[rows, i].tolist(), "predictions": values[rows, i].tolist()}
        for i, name in enumerate(target.names)
    ]


def _rows(judged: Judged, losses: np.ndarray, rows: np.ndarray) -> list[Section]:
    """The rows as the report shows them."""
    if not len(rows):
        return []
    target, logits, labels = judged.target, judged.logits[rows], judged.labels[rows]
    answers = target.answers(logits)
    truth = target.truth(labels)
    return [
        {
            "id": one["id"],
            "label": truth[i],
            "prediction": answers["prediction"][i],
            "probability": answers["probability"][i] if "probability" in answers else None,
            "loss": float(losses[rows[i]]),
            **shown(one),
        }
        for i, one in enumerate(judged.split.select(rows))
    ]


def _label_errors(judged: Judged) -> list[Section]:
    """Rows whose label the model, which never saw them, speaks against: confident learning (arXiv 1911.00068)."""
    target, labels = judged.target, judged.labels
    if not isinstance(target, SingleLabel) or len(labels) < FEWEST_FOR_ERRORS:
        return []
    rows, suggested, margin = suspicious(target.calibrated(judged.logits), labels)
    rows = rows[:MOST_SHOWN]
    return [
        {
            "id": one["id"],
            "label": target.names[int(labels[row])],
            "suggested": target.names[int(other)],
            "margin": float(ahead),
            **shown(one),
        }
        for row, other, ahead, one in zip(rows, suggested, margin, judged.split.select(rows), strict=False)
    ]


def slices(judged: Judged) -> list[Section]:
    """The metrics of the rows that have each value of each ``--slice_column``; the most frequent values first."""
    found = []
    for column in (name for name in judged.split.column_names if name.startswith(SLICE)):
        cells = np.asarray(judged.split[column][:])
        values, counts = np.unique(cells, return_counts=True)
        frequent = values[np.argsort(-counts, kind="stable")][:MOST_VALUES]
        rows = [(str(value), np.flatnonzero(cells == value)) for value in frequent]
        if len(values) > MOST_VALUES:
            rows.append((f"({len(values) - MOST_VALUES} others)", np.flatnonzero(~np.isin(cells, frequent))))
        found.append({"column": column.removeprefix(SLICE), "values": [_slice(judged, *each) for each in rows]})
    return found


def _slice(judged: Judged, value: str, rows: np.ndarray) -> Section:
    target, logits, labels = judged.target, judged.logits[rows], judged.labels[rows]
    groups = None if judged.groups is None else judged.groups[rows]
    return {
        "value": value,
        "rows": len(rows),
        "metrics": target.metrics(logits, labels),
        "intervals": intervals(target, logits, labels, groups),
    }
