"""The images of the model card: confusion matrix, reliability of the probabilities, predicted numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "figures"
MOST_NAMES = 15  # with more classes the axes show their numbers in the table of labels


def draw_figures(folder: Path, details: dict[str, Any]) -> dict[str, str]:
    """Draw the figures of a run into ``figures/`` of its folder, which is emptied first.

    ``details`` is the content of ``evaluation.json``. Return path of each image in the folder → its alternative text.
    """
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    matrix = np.array((details.get("confusion") or {}).get("matrix") or [], dtype=float)
    made = {}
    if matrix.size:
        words = "Rows of each true label by predicted label"
        made["confusion_matrix.png"] = _confusion(matrix, details["labels"]), words
    if details.get("calibration"):
        made["reliability.png"] = _reliability(details["calibration"]), "Share of correct predictions by confidence"
    if details.get("numbers"):
        made["predictions.png"] = _numbers(details["numbers"][0]), "Predicted over true numbers"
    for name, (figure, _) in made.items():
        (folder / FOLDER).mkdir(exist_ok=True)
        # Without matplotlib's version, so that the same run gives the same file.
        figure.savefig(folder / FOLDER / name, dpi=150, metadata={"Software": None})
    return {f"{FOLDER}/{name}": words for name, (_, words) in made.items()}


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots()


def _confusion(matrix: np.ndarray, names: list[str]) -> Any:
    side = 3 + 0.25 * min(len(names), MOST_NAMES)
    figure, axes = _figure(side + 1, side)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, extent=(0.5, len(names) + 0.5, len(names) + 0.5, 0.5))
    figure.colorbar(image, label="share of the true label's rows")
    # The font lacks many scripts.
    if len(names) <= MOST_NAMES and all(name.isascii() for name in names):
        short = [name if len(name) <= 20 else name[:19] + "…" for name in names]
        axes.set_xticks(range(1, len(names) + 1), short, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(1, len(names) + 1), short, parse_math=False)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _reliability(calibration: dict[str, Any]) -> Any:
    figure, axes = _figure(4.5, 4)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfectly calibrated")
    for part in ("before", "after"):
        if calibration[part]:
            points = [(each["confidence"], each["accuracy"]) for each in calibration[part]["curve"]]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=f"{part} temperature scaling")
    axes.set(xlabel="confidence", ylabel="share of correct predictions")
    axes.legend()
    return figure


def _numbers(target: dict[str, Any]) -> Any:
    figure, axes = _figure(4.5, 4)
    ends = [min(target["labels"] + target["predictions"]), max(target["labels"] + target["predictions"])]
    axes.plot(ends, ends, color="grey", linestyle=":")
    axes.plot(target["labels"], target["predictions"], ".", alpha=0.4)
    axes.set(xlabel="true", ylabel="predicted")
    return figure
