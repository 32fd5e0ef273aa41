"""Evaluate predictions on held-out rows: metrics with intervals, confusion, calibration, top losses, slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hf_finetune.data.rows.row_metadata import SLICE
from hf_finetune.evaluation.baseline import Baseline
from hf_finetune.evaluation.intervals import difference, interval_of, intervals
from hf_finetune.evaluation.metrics import floor_of, score_rows
from hf_finetune.tasks.outputs import Output, Section
from hf_finetune.tasks.task import Input

MOST_SHOWN = 24  # rows among the top losses, and among the likely label errors
MOST_VALUES = 30  # of a slice column


@dataclass
class Judged:
    """A split and the predictions on it.

    Args:
        split: its rows, with ``id``, the input, and optionally ``group`` and ``slice: NAME``.
        output: the output of the task.
        raw: raw outputs, shape (rows, ...).
        truth: the labels as numbers, shape (rows, ...).
        input: the input of the task.
    """

    split: Any
    output: Output
    raw: np.ndarray
    truth: np.ndarray
    input: Input

    @cached_property
    def groups(self) -> np.ndarray | None:
        """The group of each row, shape (rows,); None without groups."""
        return np.asarray(self.split["group"][:]) if "group" in self.split.column_names else None

    @cached_property
    def statistics(self) -> Any:
        """The statistics from which metrics, intervals and comparisons are computed."""
        return self.output.statistics(self.raw, self.truth)


def judge(
    judged: Judged,
    scores: dict[str, float],
    metric: str,
    baseline: Baseline | None,
    extra: tuple[str, Callable[[np.ndarray], float]] | None = None,
) -> Section:
    """Return the part of ``evaluation.json`` that depends on the predictions.

    Args:
        judged: rows and predictions.
        scores: the metrics of the split.
        metric: the headline metric.
        baseline: the baseline on the same rows.
        extra: name of a Hub metric, and a function that computes it from row indices.
    """
    output, raw, truth = judged.output, judged.raw, judged.truth
    bounds = intervals(output, judged.statistics, judged.groups)
    if extra is not None:
        between = interval_of(extra[1], len(truth), judged.groups)
        bounds |= {} if between is None else {extra[0]: between}
    simple = None if baseline is None else baseline.output.statistics(baseline.raw, truth)
    compared = {} if baseline is None else score_rows(baseline.output, simple)
    losses = output.row_losses(raw, truth)
    order = np.argsort(-losses, kind="stable")
    found: Section = {
        "rows": len(truth),
        "headline": _headline(judged, scores, metric, bounds),
        "metrics": [
            {"name": name, "value": scores[name], "interval": bounds.get(name), "baseline": compared.get(name)}
            for name in scores
            if name in output.METRICS or (extra is not None and name == extra[0])
        ],
        "per_label": output.per_label(judged.statistics),
        **output.sections(raw, truth),
        "top_losses": _rows(judged, losses, order[output.wrong(raw, truth)[order]][:MOST_SHOWN]),
        "label_errors": _label_errors(judged),
        "slices": slices(judged),
    }
    if baseline is not None and metric in compared:
        found["headline"]["baseline"] = _compare_with_baseline(
            judged, scores, metric, baseline, simple, compared[metric]
        )
    found["headline"]["verdict"] = verdict(found["headline"], greater=output.METRICS.get(metric, True))
    return found


def _headline(judged: Judged, scores: dict[str, float], metric: str, bounds: dict[str, list[float]]) -> Section:
    always = floor_of(judged.output, judged.truth)
    floor = {"name": f"{judged.output.FLOOR.kind}_{metric}", "value": always[metric]} if metric in always else None
    return {
        "metric": metric,
        "value": scores[metric],
        "interval": bounds.get(metric),
        "floor": floor,
        "baseline": None,
    }


def _compare_with_baseline(
    judged: Judged, scores: dict[str, float], metric: str, baseline: Baseline, simple: Any, value: float
) -> Section:
    gap = difference(judged.output, judged.statistics, simple, judged.groups, metric=metric)
    return {
        "name": baseline.name,
        "value": value,
        "interval": intervals(baseline.output, simple, judged.groups).get(metric),
        "difference": scores[metric] - value,
        "difference_interval": None if gap is None else [gap.low, gap.high],
    }


def verdict(headline: Section, *, greater: bool) -> str:
    """Return a sentence: whether the model is better than a constant prediction and than the baseline.

    Args:
        headline: has ``metric``, ``interval``, ``floor`` and ``baseline``.
        greater: whether greater values are better.
    """
    sentences = []
    floor, interval = (headline["floor"] or {}).get("value"), headline["interval"]
    if floor is not None and interval is not None:
        beaten = interval[0] > floor if greater else interval[1] < floor
        if not beaten:
            sentences.append(f"It does not beat a constant prediction ({floor:.3f}) beyond the interval.")
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
        sentences.append(f"It beats a constant prediction ({floor:.3f}).")
    return " ".join(sentences)


def _rows(judged: Judged, losses: np.ndarray, rows: np.ndarray) -> list[Section]:
    """Return rows for the report."""
    if not len(rows):
        return []
    answers = judged.output.answers(judged.raw[rows])
    truth = judged.output.truth(judged.truth[rows])
    return [
        {
            "id": one["id"],
            "label": truth[i],
            "prediction": answers["prediction"][i],
            "probability": answers["probability"][i] if "probability" in answers else None,
            "loss": float(losses[rows[i]]),
            **judged.input.preview(one),
        }
        for i, one in enumerate(judged.split.select(rows))
    ]


def _label_errors(judged: Judged) -> list[Section]:
    """Return the rows whose label is probably wrong, those with the largest margin first."""
    found = judged.output.label_errors(judged.raw, judged.truth)
    if found is None or not len(found[0]):
        return []
    rows, suggested, margin = (each[:MOST_SHOWN] for each in found)
    given = judged.output.truth(judged.truth[rows])
    return [
        {"id": one["id"], "label": label, "suggested": other, "margin": float(ahead), **judged.input.preview(one)}
        for label, other, ahead, one in zip(given, suggested, margin, judged.split.select(rows), strict=True)
    ]


def slices(judged: Judged) -> list[Section]:
    """Return the metrics for each value of each ``--slice_column``, the most frequent values first."""
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
    output, statistics = judged.output, judged.statistics[rows]
    groups = None if judged.groups is None else judged.groups[rows]
    return {
        "value": value,
        "rows": len(rows),
        "metrics": score_rows(output, statistics),
        "intervals": intervals(output, statistics, groups),
    }
