"""The history of a run as curves: epochs are counted through all phases."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from hf_finetune.report.figures import Drawing, Line, draw_lines

History = list[dict[str, Any]]


def draw_curves(history: History, metric: str) -> list[Drawing]:
    """Loss, the headline metric, learning rates and throughput: those that the history holds.

    Args:
        history: the Trainer's log entries in order, each with its ``phase``.
        metric: the headline metric; where the validation rows were not judged by it, the first that they were.
    """
    judged = _judged_by(history, metric)
    wanted = [
        ("loss", "Loss", [("training", "loss"), ("validation", "eval_loss")], False),
        ("metric", f"{judged} (validation)", [(judged, f"eval_{judged}")], False),
        ("rate", "Learning rate", [("first group", "learning_rate"), ("head", "learning_rate_head")], True),
        ("pace", "Throughput (training rows a second)", [("rows a second", "rows_per_second")], False),
    ]
    phases = phases_of(history)
    found = []
    for key, title, names, log in wanted:
        lines = [Line(name, points) for name, source in names if (points := points_of(history, source))]
        if lines:
            positive = all(value > 0 for line in lines for _, value in line.points)
            found.append(draw_lines(key, title, lines, phases, log=log and positive))
    return found


def _judged_by(history: History, metric: str) -> str:
    passed_over = ("loss", "runtime", "steps_per_second", "samples_per_second")
    judged = [key.removeprefix("eval_") for entry in history for key in entry if key.startswith("eval_")]
    return metric if metric in judged else next((key for key in judged if key not in passed_over), metric)


def phases_of(history: list[dict[str, Any]]) -> list[tuple[float, str]]:
    """The epoch, counted through, that each phase begins at, and its name."""
    begin, found = 0.0, []
    for phase, entries in _by_phase(history):
        found.append((begin, phase))
        begin += max((entry.get("epoch") or 0.0 for entry in entries), default=0.0)
    return found


def points_of(history: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """(epoch, counted through all phases, value) of each entry of the history that has a number of this name."""
    points: list[tuple[float, float]] = []
    for (begin, _), (_, entries) in zip(phases_of(history), _by_phase(history), strict=True):
        points += [
            (begin + entry["epoch"], float(entry[key]))
            for entry in entries
            if isinstance(entry.get(key), int | float) and np.isfinite(entry[key]) and entry.get("epoch") is not None
        ]
    return points


def _by_phase(history: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The entries of each phase: two phases that follow each other may have the same name, but epochs then begin anew."""
    cuts = [
        index + 1
        for index, (one, two) in enumerate(pairwise(history))
        if one.get("phase") != two.get("phase") or (two.get("epoch") or 0.0) < (one.get("epoch") or 0.0)
    ]
    parts = [history[begin:end] for begin, end in pairwise([0, *cuts, len(history)])] if history else []
    return [(str(part[0].get("phase", "")), part) for part in parts]
