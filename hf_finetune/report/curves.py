"""Training curves from the history of a run, over the epochs of all phases."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from hf_finetune.report.figures import Drawing, Line, draw_lines

History = list[dict[str, Any]]


def draw_curves(history: History, metric: str) -> list[Drawing]:
    """Draw loss, headline metric, learning rates and throughput, as far as the history has them.

    Args:
        history: the Trainer's log entries in order, each with its ``phase``.
        metric: the headline metric; if the history has no validation values of it, the first metric that has some.
    """
    judged = _validation_metric(history, metric)
    wanted = [
        ("loss", "Loss", [("training", "loss"), ("validation", "eval_loss")], False),
        ("metric", f"{judged} (validation)", [(judged, f"eval_{judged}")], False),
        ("rate", "Learning rate", [("first group", "learning_rate"), ("head", "learning_rate_head")], True),
        ("pace", "Throughput (training rows per second)", [("rows per second", "rows_per_second")], False),
    ]
    phases = phases_of(history)
    found = []
    for key, title, names, log in wanted:
        lines = [Line(name, points) for name, source in names if (points := points_of(history, source))]
        if lines:
            positive = all(value > 0 for line in lines for _, value in line.points)
            found.append(draw_lines(key, title, lines, phases, log=log and positive))
    return found


def _validation_metric(history: History, metric: str) -> str:
    no_metric = ("loss", "runtime", "steps_per_second", "samples_per_second")
    found = [key.removeprefix("eval_") for entry in history for key in entry if key.startswith("eval_")]
    return metric if metric in found else next((key for key in found if key not in no_metric), metric)


def phases_of(history: History) -> list[tuple[float, str]]:
    """Return (first epoch, name) of each phase; epochs count on from phase to phase."""
    begin, found = 0.0, []
    for phase, entries in _by_phase(history):
        found.append((begin, phase))
        begin += max((entry.get("epoch") or 0.0 for entry in entries), default=0.0)
    return found


def points_of(history: History, key: str) -> list[tuple[float, float]]:
    """Return (epoch, value) of each entry that has a finite number ``key``; epochs count on from phase to phase."""
    points: list[tuple[float, float]] = []
    for (begin, _), (_, entries) in zip(phases_of(history), _by_phase(history), strict=True):
        points += [
            (begin + entry["epoch"], float(entry[key]))
            for entry in entries
            if isinstance(entry.get(key), int | float) and np.isfinite(entry[key]) and entry.get("epoch") is not None
        ]
    return points


def _by_phase(history: History) -> list[tuple[str, History]]:
    """Return (name, entries) of each phase; phases of the same name are separated where the epoch decreases."""
    cuts = [
        index + 1
        for index, (one, two) in enumerate(pairwise(history))
        if one.get("phase") != two.get("phase") or (two.get("epoch") or 0.0) < (one.get("epoch") or 0.0)
    ]
    parts = [history[begin:end] for begin, end in pairwise([0, *cuts, len(history)])] if history else []
    return [(str(part[0].get("phase", "")), part) for part in parts]
