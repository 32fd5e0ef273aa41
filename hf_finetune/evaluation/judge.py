"""Evaluate predictions on held-out rows: metrics with intervals, confusion, calibration, top losses, slices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hf_finetune.data.rows.row_metadata import SLICE
from hf_finetune.evaluation.baseline import Baseline
from hf_finetune.evaluation.intervals import difference, interval_of, intervals
from hf_finetune.evaluation.metrics import HubMetric, metric_key, metrics_of, score_rows
from hf_finetune.tasks.outputs import Output, Section
from hf_finetune.tasks.task import Input

MOST_SHOWN = 24  # rows among the top losses, and among the likely label errors
MOST_VALUES = 30  # of a slice column


@dataclass
class Judged:
    """A split and the predictions on it."""

    split: Any  # its rows, with ``id``, the input, and optionally ``group`` and ``slice: NAME``
    output: Output
    raw: np.ndarray  # shape (rows, ...)
    truth: np.ndarray  # the labels as numbers, shape (rows, ...)
    input: Input

    @cached_property
    def groups(self) -> np.ndarray | None:
        """The group of each row, shape (rows,); None without groups."""
        return np.asarray(self.split["group"][:]) if "group" in self.split.column_names else None

    @cached_property
    def statistics(self) -> Any:
        """The statistics from which metrics, intervals and comparisons are computed."""
        return self.output.statistics(self.raw, self.truth)

    @cached_property
    def floor(self) -> dict[str, float]:
        """The metrics of a constant prediction."""
        return metrics_of(self.output, self.output.constant(self.truth), self.truth)


def judge(
    judged: Judged, scores: dict[str, float], metric: str, baseline: Baseline | None, hub: HubMetric | None = None
) -> Section:
    """Return the part of ``evaluation.json`` that depends on the predictions.

    ``scores`` are all metrics of the split, ``metric`` is the headline one, of the output, and ``hub`` another that gets an
    interval. The baseline is on the same rows.
    """
    output, raw, truth = judged.output, judged.raw, judged.truth
    bounds = intervals(output, judged.statistics, judged.groups)
    shown = set(output.METRICS)
    if hub is not None:
        key, decided = metric_key(hub.name), output.decide(raw)
        between = interval_of(lambda rows: hub.compute(decided[rows], truth[rows])[key], len(truth), judged.groups)
        bounds |= {} if between is None else {key: between}
        shown.add(key)
    floor = {"name": f"{output.FLOOR.kind}_{metric}", "value": judged.floor[metric]} if metric in judged.floor else None
    headline = {"metric": metric, "value": scores[metric], "interval": bounds.get(metric), "floor": floor}
    compared, headline["baseline"] = ({}, None) if baseline is None else _compare(judged, scores, metric, baseline)
    headline["verdict"] = verdict(headline, greater=output.METRICS[metric])
    losses = output.row_losses(raw, truth)
    order = np.argsort(-losses, kind="stable")
    order = order[output.wrong(raw, truth)[order]][:MOST_SHOWN]
    answers = output.answers(raw[order])
    wrong = {name: answers.get(name, [None] * len(order)) for name in ("prediction", "probability")}
    rows, suggested, margin = (each[:MOST_SHOWN] for each in output.label_errors(raw, truth) or ([], [], []))
    return {
        "rows": len(truth),
        "headline": headline,
        "metrics": [
            {"name": name, "value": scores[name], "interval": bounds.get(name), "baseline": compared.get(name)}
            for name in scores
            if name in shown
        ],
        "per_label": output.per_label(judged.statistics),
        **output.sections(raw, truth),
        "top_losses": _rows(judged, order, wrong | {"loss": losses[order].tolist()}),
        "label_errors": _rows(judged, rows, {"suggested": suggested, "margin": list(map(float, margin))}),
        "slices": slices(judged),
    }


def _compare(
    judged: Judged, scores: dict[str, float], metric: str, baseline: Baseline
) -> tuple[dict[str, float], Section | None]:
    """Return the metrics of the baseline, and its part of the headline; None if the headline metric is not defined."""
    simple = baseline.output.statistics(baseline.raw, judged.truth)
    compared = score_rows(baseline.output, simple)
    if metric not in compared:
        return compared, None
    gap = difference(judged.output, judged.statistics, simple, judged.groups, metric=metric)
    return compared, {
        "name": baseline.name,
        "value": compared[metric],
        "interval": intervals(baseline.output, simple, judged.groups).get(metric),
        "difference": scores[metric] - compared[metric],
        "difference_interval": None if gap is None else [gap.low, gap.high],
    }


def verdict(headline: Section, *, greater: bool) -> str:
    """Return in words whether the model is better than the ``floor`` and the ``baseline`` of a headline."""
    sentences = []
    floor, interval = (headline["floor"] or {}).get("value"), headline["interval"]
    if floor is not None and interval is not None:
        beaten = interval[0] > floor if greater else interval[1] < floor
        if not beaten:
            sentences.append(f"It does not beat a constant prediction ({floor:.3f}) beyond the interval.")
    simple = headline["baseline"]
    if simple is None:
        if floor is not None and not sentences:
            sentences.append(f"It beats a constant prediction ({floor:.3f}).")
    elif simple["difference_interval"] is None:
        sentences.append(f"There are too few rows or groups to compare it with the baseline, {simple['name']}.")
    else:
        low, high = simple["difference_interval"]
        sure = low > 0 or high < 0
        how = "does not beat" if not sure else "beats" if (low > 0) == greater else "is worse than"
        sentences.append(
            f"It {how} the baseline, {simple['name']}{'' if sure else ', beyond the interval'} (difference in "
            f"{headline['metric']} {simple['difference']:.3f}, 95 % interval {low:.3f} to {high:.3f})."
        )
    return " ".join(sentences)


def _rows(judged: Judged, rows: Any, columns: dict[str, Any]) -> list[Section]:
    """Return rows for the report, each with its values of ``columns``."""
    if not len(rows):
        return []
    labels, cells = judged.output.truth(judged.truth[rows]), zip(*columns.values(), strict=True)
    return [
        _row(judged, one, {"label": label, **dict(zip(columns, own, strict=True))})
        for one, label, own in zip(judged.split.select(rows), labels, cells, strict=True)
    ]


def _row(judged: Judged, row: dict[str, Any], cells: dict[str, Any]) -> Section:
    """Return a row for the report; ``marked`` has its text with the labels and the predictions of parts of it."""
    texts = {
        name: judged.output.marked(row.get("text") or "", cells[name])
        for name in ("label", "prediction") & cells.keys()
    }
    marked = {"marked": texts} if any(texts.values()) else {}
    return {"id": row["id"], **cells, **judged.input.preview(row), **marked}


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
    statistics, groups = judged.statistics[rows], None if judged.groups is None else judged.groups[rows]
    bounds = intervals(judged.output, statistics, groups)
    return {"value": value, "rows": len(rows), "metrics": score_rows(judged.output, statistics), "intervals": bounds}
