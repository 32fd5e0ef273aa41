"""Training curves from the history of a run, over the epochs of all phases."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_finetune.report.figures import Drawing, Points, draw_lines

History = list[dict[str, Any]]


def draw_curves(history: History, metric: str) -> list[Drawing]:
    """Draw loss, metric, learning rates and throughput, as far as the Trainer's log entries have them.

    The metric is the headline one; if there are no validation values of it, the first that has some.
    """
    judged = _validation_metric(history, metric)
    wanted = [
        ("loss", "Loss", [("training", "loss"), ("validation", "eval_loss")], False),
        ("metric", f"{judged} (validation)", [(judged, f"eval_{judged}")], False),
        ("rate", "Learning rate", [("first group", "learning_rate"), ("head", "learning_rate_head")], True),
        ("pace", "Throughput (training rows per second)", [("rows per second", "rows_per_second")], False),
    ]
    found = []
    for key, title, names, log in wanted:
        lines = [(name, points) for name, source in names if (points := points_of(history, source))]
        if lines:
            positive = all(value > 0 for _, points in lines for _, value in points)
            found.append(draw_lines(key, title, lines, phases_of(history), log=log and positive))
    return found


def _validation_metric(history: History, metric: str) -> str:
    no_metric = ("loss", "runtime", "steps_per_second", "samples_per_second")
    found = [key.removeprefix("eval_") for entry in history for key in entry if key.startswith("eval_")]
    return metric if metric in found else next((key for key in found if key not in no_metric), metric)


def phases_of(history: History) -> list[tuple[float, str]]:
    """Return (first epoch, name) of each phase; epochs count on from phase to phase."""
    return [(begin, str(entries[0].get("phase", ""))) for begin, entries in _by_phase(history)]


def points_of(history: History, key: str) -> Points:
    """Return (epoch, value) of each entry that has a finite number ``key``; epochs count on from phase to phase."""
    return [
        (begin + entry["epoch"], float(entry[key]))
        for begin, entries in _by_phase(history)
        for entry in entries
        if isinstance(entry.get(key), int | float) and np.isfinite(entry[key]) and entry.get("epoch") is not None
    ]


def _by_phase(history: History) -> list[tuple[float, History]]:
    """Return (first epoch, entries) of each phase; phases of the same name are separated where the epoch decreases."""
    found: list[tuple[float, History]] = []
    last: dict[str, Any] = {}
    for entry in history:
        ended = last.get("epoch") or 0.0
        if not found or entry.get("phase") != last.get("phase") or (entry.get("epoch") or 0.0) < ended:
            found.append((found[-1][0] + ended if found else 0.0, []))
        found[-1][1].append(entry)
        last = entry
    return found
