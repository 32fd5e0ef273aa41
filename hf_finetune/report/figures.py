"""The figures of the report: inline SVG that uses the colours of the page, light or dark.

Names from the data are not drawn but stand in tables, where the browser can show any script.
"""

from __future__ import annotations

import io
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
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": DIM,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "legend.frameon": False,
    "text.parse_math": False,
    "axes.formatter.useoffset": False,
}
_SIZE = (4.2, 2.7)  # inches; on a phone (390 pixels) the text is as large as that of the page


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Args:
        key: prefix of the ids in the SVG, which must be unique in the page.
        title: the caption.
        words: a description for screen readers.
        svg: the SVG element.
    """

    key: str
    title: str
    words: str
    svg: str


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, and its points (epoch, value) in order."""

    name: str
    points: list[tuple[float, float]]


def draw_lines(key: str, title: str, lines: list[Line], phases: list[tuple[float, str]], *, log: bool) -> Drawing:
    """Draw lines over the epochs of all phases.

    Args:
        key: prefix of ids, see :class:`Drawing`.
        title: the caption.
        lines: at most two, which differ in colour and dashes.
        phases: (first epoch, name) of each phase.
        log: whether the vertical axis is logarithmic.
    """
    with _axes() as (figure, axes):
        for number, line in enumerate(lines):
            epochs, values = zip(*line.points, strict=True)
            marker = "o" if len(epochs) <= 30 else ""
            style = {"color": (FIRST, SECOND)[number % 2], "linestyle": ("-", "--")[number % 2]}
            axes.plot(epochs, values, marker=marker, markersize=3.5, linewidth=1.6, label=line.name, **style)
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
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(lines) > 1:
            axes.legend()
        return _drawing(figure, key, title, ". ".join(_describe(line) for line in lines) + ".")


def draw_headline(rows: list[tuple[str, float, list[float] | None]], metric: str) -> Drawing:
    """Draw the run's value, which comes first, and the values it is compared with: (name, value, interval)."""
    with _axes(height=0.55 + 0.3 * len(rows)) as (figure, axes):
        for place, (_, value, interval) in enumerate(rows):
            colour = FIRST if place == 0 else SECOND
            if interval:
                axes.plot(interval, [-place, -place], color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot([value], [-place], marker="o" if interval else "D", color=colour, markersize=7)
        axes.set_yticks([-place for place in range(len(rows))], [name for name, *_ in rows])
        axes.set_ylim(-len(rows) + 0.5, 0.5)
        axes.margins(x=0.08)
        axes.set_xlabel(metric)
        axes.grid(axis="y", visible=False)
        said = [f"{name} {value:.3f}{_interval(interval)}" for name, value, interval in rows]
        return _drawing(figure, "headline", "", f"{metric}: {'; '.join(said)}.")


def draw_confusion(matrix: np.ndarray, pairs: str) -> Drawing:
    """Draw a confusion matrix as a heat map, with classes numbered from 1.

    Args:
        matrix: number of rows by true and predicted class, shape (classes, classes).
        pairs: a sentence about the most confused classes.
    """
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    pixels = np.zeros((*matrix.shape, 4))
    pixels[..., :3] = np.where(np.eye(len(matrix), dtype=bool)[..., None], _FIRST_RGB, _SECOND_RGB)
    pixels[..., 3] = np.where(shares > 0, 0.2 + 0.8 * np.sqrt(shares), 0)  # single mistakes stay visible
    with _axes(width=4.6, height=4.4) as (figure, axes):
        edges = (0.5, len(matrix) + 0.5)
        axes.imshow(pixels, interpolation="none", extent=(*edges, *edges[::-1]))
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
        right = float(np.trace(matrix)) / max(float(matrix.sum()), 1.0)
        words = f"Confusion of {len(matrix)} classes; {right:.1%} of the rows are on the diagonal. {pairs}"
        return _drawing(figure, "confusion", "", words)


def draw_reliability(curves: list[tuple[str, list[tuple[float, float]]]]) -> Drawing:
    """Draw accuracy over confidence for one or two curves: (name, (confidence, accuracy) of each bin)."""
    with _axes(height=3.4) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=DIM, linewidth=1, linestyle=":", label="perfectly calibrated")
        styles: tuple[dict[str, Any], ...] = (
            {"color": SECOND, "linestyle": "--", "marker": "s"},
            {"color": FIRST, "linestyle": "-", "marker": "o"},
        )
        for style, (name, points) in zip(styles[-len(curves) :], curves, strict=True):
            axes.plot(*zip(*points, strict=True), markersize=4, linewidth=1.6, label=name, **style)
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        low = min(value for _, points in curves for point in points for value in point)
        axes.set_xlim(max(0.0, low - 0.05), 1.02)
        axes.set_ylim(max(0.0, low - 0.05), 1.02)
        axes.legend(loc="upper left")
        return _drawing(figure, "reliability", "", " ".join(_describe_gap(name, points) for name, points in curves))


def draw_scatter(key: str, labels: np.ndarray, predictions: np.ndarray) -> Drawing:
    """Draw predicted over true numbers, both of shape (rows,)."""
    with _axes(height=3.4) as (figure, axes):
        ends = [min(labels.min(), predictions.min()), max(labels.max(), predictions.max())]
        axes.plot(ends, ends, color=DIM, linewidth=1, linestyle=":")
        axes.plot(labels, predictions, ".", **_dots(len(labels)))
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
        varies = len(labels) > 2 and np.ptp(labels) > 0 and np.ptp(predictions) > 0
        pearson = f", correlation {np.corrcoef(labels, predictions)[0, 1]:.2f}" if varies else ""
        words = f"{len(labels):,} rows, predicted over true numbers{pearson}; on the dotted line both are equal."
        return _drawing(figure, key, "Predicted and true", words)


def draw_residuals(key: str, labels: np.ndarray, predictions: np.ndarray) -> Drawing:
    """Draw residuals (predicted minus true) over predicted numbers, both of shape (rows,)."""
    residuals = predictions - labels
    with _axes(height=3.4) as (figure, axes):
        axes.axhline(0, color=DIM, linewidth=1, linestyle=":")
        axes.plot(predictions, residuals, ".", **_dots(len(labels)))
        axes.set_xlabel("predicted")
        axes.set_ylabel("predicted − true")
        low, high = np.quantile(residuals, [0.05, 0.95])
        words = f"Residuals: mean {residuals.mean():.3g}; 90 % of the rows are between {low:.3g} and {high:.3g}."
        return _drawing(figure, key, "Residuals", words)


def _dots(rows: int) -> dict[str, Any]:
    """Return the style of points; many points are fainter."""
    return {"color": FIRST, "markersize": 5, "alpha": 0.7 if rows <= 300 else 0.4}


def _describe(line: Line) -> str:
    values = [value for _, value in line.points]
    if len(values) == 1:
        return f"{line.name}: {values[0]:.3g} at epoch {line.points[0][0]:.3g}"
    ends = f"from {values[0]:.3g} to {values[-1]:.3g} at epoch {line.points[-1][0]:.3g}"
    return f"{line.name}: {ends}, lowest {min(values):.3g}, highest {max(values):.3g}"


def _describe_gap(name: str, points: list[tuple[float, float]]) -> str:
    gap = float(np.mean([confidence - accuracy for confidence, accuracy in points]))
    how = "above" if gap > 0 else "below"
    return f"{name[:1].upper()}{name[1:]}: on average over the bins, confidence is {abs(gap):.3f} {how} accuracy."


def _interval(interval: list[float] | None) -> str:
    return f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""


@contextmanager
def _axes(width: float = _SIZE[0], height: float = _SIZE[1]) -> Iterator[tuple[Any, Any]]:
    """Yield a figure and its axes in the style of the page; save the figure inside the block, where the style holds."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


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
