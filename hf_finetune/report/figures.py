"""The figures of the report: inline SVG that uses the colours of the page, light or dark.

Names from the data are not drawn but stand in tables, where the browser can show any script.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

# Colours that matplotlib writes → what the page replaces them with.
_INK = {
    "#000001": "currentColor",
    "#000002": "var(--dim)",
    "#000003": "var(--line)",
    "#000004": "var(--bar)",
    "#000005": "var(--second)",
}
TEXT, DIM, LINE, FIRST, SECOND = _INK
# The two hues as pixels, which cannot use CSS variables: visible on white and on black.
_FIRST_RGB, _SECOND_RGB = (0.30, 0.50, 0.92), (0.90, 0.45, 0.10)
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hf-finetune",
    "font.size": 9,
    "axes.facecolor": "none",
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), TEXT),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), DIM),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("text.parse_math", "axes.formatter.useoffset"), False),
}
FEW_CLASSES = 15  # up to this number, the confusion matrix is a table with numbers

Points = list[tuple[float, float]]
History = list[dict[str, Any]]


@dataclass(frozen=True)
class Drawing:
    """One figure."""

    key: str  # prefix of the ids in the SVG, which must be unique in the page
    title: str  # the caption
    words: str  # a description for screen readers
    svg: str  # the SVG element


def draw_curves(history: History, metric: str) -> list[Drawing]:
    """Draw loss, metric, learning rates and throughput, as far as the Trainer's log entries have them.

    The metric is the headline one; if there are no validation values of it, the first that has some.
    """
    judged = _validation_metric(history, metric)
    wanted = [
        ("loss", "Loss", [("training", "loss"), ("validation", "eval_loss")], False),
        ("metric", f"{judged} (validation)", [(judged, f"eval_{judged}")], False),
        ("rate", "Learning rate", [("lowest stage", "learning_rate"), ("head", "learning_rate_head")], True),
        ("pace", "Throughput (training rows per second)", [("rows per second", "rows_per_second")], False),
    ]
    found = []
    for key, title, names, log in wanted:
        lines = [(name, points) for name, source in names if (points := points_of(history, source))]
        if lines:
            positive = all(value > 0 for _, points in lines for _, value in points)
            found.append(_draw_lines(key, title, lines, phases_of(history), log=log and positive))
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


def _draw_lines(
    key: str, title: str, lines: list[tuple[str, Points]], phases: list[tuple[float, str]], *, log: bool
) -> Drawing:
    """Draw at most two lines, each a name and its points, over the epochs of all phases: (first epoch, name) of each."""
    with _axes("epoch") as (figure, axes):
        for (name, points), colour, dashes in zip(lines, (FIRST, SECOND), ("-", "--"), strict=False):
            marker = "o" if len(points) <= 30 else ""
            style = {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 3.5, "linewidth": 1.6}
            axes.plot(*zip(*points, strict=True), label=name, **style)
        for begin, _ in phases[1:]:
            axes.axvline(begin, color=DIM, linewidth=0.9, linestyle=":")
        if 1 < len(phases) <= 4:  # more names would overlap
            for begin, name in phases:
                axes.annotate(name, (begin, 1.0), xycoords=("data", "axes fraction"), xytext=(3, 3), color=DIM,
                              textcoords="offset points", fontsize=8)  # fmt: skip
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
            axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(lines) > 1:
            axes.legend()
        return _drawing(figure, key, title, ". ".join(_describe(*line) for line in lines) + ".")


def draw_headline(headline: dict[str, Any] | None) -> Drawing | None:
    """Draw the run's value with its interval, and the baseline and the floor; None if there is no value."""
    if not headline or not math.isfinite(headline["value"]):
        return None
    parts = {"this model": headline, "baseline": headline.get("baseline"), "floor": headline.get("floor")}
    rows = [(name, part["value"], part.get("interval")) for name, part in parts.items() if part]
    with _axes(headline["metric"], height=0.55 + 0.3 * len(rows)) as (figure, axes):
        for place, (_, value, interval) in enumerate(rows):
            colour = FIRST if place == 0 else SECOND
            if interval:
                axes.plot(interval, [-place, -place], color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot([value], [-place], marker="o" if interval else "D", color=colour, markersize=7)
        axes.set_yticks([-place for place in range(len(rows))], [name for name, *_ in rows])
        axes.set_ylim(-len(rows) + 0.5, 0.5)
        axes.margins(x=0.08)
        axes.grid(axis="y", visible=False)
        spans = [f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "" for *_, ends in rows]
        said = [f"{name} {value:.3f}{span}" for (name, value, _), span in zip(rows, spans, strict=True)]
        return _drawing(figure, "headline", "", f"{headline['metric']}: {'; '.join(said)}.")


def draw_confusion(confusion: dict[str, Any] | None) -> Drawing | None:
    """Draw the matrix of many classes as a heat map, with classes numbered from 1; None for few, which get a table."""
    matrix = np.array(confusion["matrix"] if confusion else [], dtype=float)
    if not confusion or len(matrix) <= FEW_CLASSES:
        return None
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    pixels = np.zeros((*matrix.shape, 4))
    pixels[..., :3] = np.where(np.eye(len(matrix), dtype=bool)[..., None], _FIRST_RGB, _SECOND_RGB)
    pixels[..., 3] = np.where(shares > 0, 0.2 + 0.8 * np.sqrt(shares), 0)  # single mistakes stay visible
    with _axes("predicted class", "true class", width=4.6, height=4.4) as (figure, axes):
        edges = (0.5, len(matrix) + 0.5)
        axes.imshow(pixels, interpolation="none", extent=(*edges, *edges[::-1]))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
        right = float(np.trace(matrix)) / max(float(matrix.sum()), 1.0)
        words = f"Confusion of {len(matrix)} classes; {right:.1%} of the rows are on the diagonal."
        said = [f"{pair['label']} as {pair['prediction']} ({pair['rows']})" for pair in confusion["pairs"][:3]]
        return _drawing(figure, "confusion", "", words + (f" Most confused: {'; '.join(said)}." if said else ""))


def draw_reliability(calibration: dict[str, Any] | None) -> Drawing | None:
    """Draw accuracy over confidence, before and after the temperature; None if there are no bins."""
    curves: dict[str, Points] = {}
    for part in ("before", "after"):
        bins = ((calibration or {}).get(part) or {}).get("curve") or []
        points = [(each["confidence"], each["accuracy"]) for each in bins if each["rows"]]
        if points:
            curves[f"{part} temperature"] = points
    if not curves:
        return None
    with _axes("confidence", "accuracy", height=3.4) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=DIM, linewidth=1, linestyle=":", label="perfectly calibrated")
        styles = ((SECOND, "--", "s"), (FIRST, "-", "o"))[-len(curves) :]
        for (name, points), (colour, dashes, marker) in zip(curves.items(), styles, strict=True):
            style = {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 4, "linewidth": 1.6}
            axes.plot(*zip(*points, strict=True), label=name, **style)
        low = max(0.0, min(value for points in curves.values() for point in points for value in point) - 0.05)
        axes.set(xlim=(low, 1.02), ylim=(low, 1.02))
        axes.legend(loc="upper left")
        return _drawing(figure, "reliability", "", " ".join(_describe_gap(*curve) for curve in curves.items()))


def draw_numbers(index: int, target: dict[str, Any]) -> list[Drawing]:
    """Draw predicted over true numbers of a target, and residuals (predicted minus true) over predicted ones."""
    labels, predictions = np.array(target["labels"], dtype=float), np.array(target["predictions"], dtype=float)
    residuals = predictions - labels
    dots = {"color": FIRST, "markersize": 5, "alpha": 0.7 if len(labels) <= 300 else 0.4}  # many points are fainter
    with _axes("true", "predicted", height=3.4) as (figure, axes):
        ends = [min(labels.min(), predictions.min()), max(labels.max(), predictions.max())]
        axes.plot(ends, ends, color=DIM, linewidth=1, linestyle=":")
        axes.plot(labels, predictions, ".", **dots)
        varies = len(labels) > 2 and np.ptp(labels) > 0 and np.ptp(predictions) > 0
        pearson = f", correlation {np.corrcoef(labels, predictions)[0, 1]:.2f}" if varies else ""
        words = f"{len(labels):,} rows, predicted over true numbers{pearson}; on the dotted line both are equal."
        scatter = _drawing(figure, f"scatter{index}", "Predicted and true", words)
    with _axes("predicted", "predicted − true", height=3.4) as (figure, axes):
        axes.axhline(0, color=DIM, linewidth=1, linestyle=":")
        axes.plot(predictions, residuals, ".", **dots)
        low, high = np.quantile(residuals, [0.05, 0.95])
        words = f"Residuals: mean {residuals.mean():.3g}; 90 % of the rows are between {low:.3g} and {high:.3g}."
        return [scatter, _drawing(figure, f"residuals{index}", "Residuals", words)]


def _describe(name: str, points: Points) -> str:
    values = [value for _, value in points]
    if len(values) == 1:
        return f"{name}: {values[0]:.3g} at epoch {points[0][0]:.3g}"
    ends = f"from {values[0]:.3g} to {values[-1]:.3g} at epoch {points[-1][0]:.3g}"
    return f"{name}: {ends}, lowest {min(values):.3g}, highest {max(values):.3g}"


def _describe_gap(name: str, points: Points) -> str:
    gap = float(np.mean([confidence - accuracy for confidence, accuracy in points]))
    how = "above" if gap > 0 else "below"
    return f"{name[:1].upper()}{name[1:]}: on average over the bins, confidence is {abs(gap):.3f} {how} accuracy."


@contextmanager
def _axes(x: str, y: str = "", *, width: float = 4.2, height: float = 2.7) -> Iterator[tuple[Any, Any]]:
    """Yield a figure and its axes in the style of the page; save the figure inside the block, where the style holds.

    The sizes are in inches: on a phone (390 pixels) the text is as large as that of the page.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot(xlabel=x, ylabel=y)


def _drawing(figure: Any, key: str, title: str, words: str) -> Drawing:
    file = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    text = file.getvalue()
    svg = text[text.index("<svg") :]
    for colour, ink in _INK.items():
        svg = svg.replace(colour, ink)
    # The page sets the width; ids must be unique in the page.
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", svg)
    return Drawing(key, title, words, svg)
