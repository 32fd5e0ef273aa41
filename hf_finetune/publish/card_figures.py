"""The images of the model card: confusion matrix, reliability of the probabilities, predicted numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "figures"
MOST_NAMES = 15  # with more classes the axes show their numbers in the table of labels


def draw_figures(folder: Path, details: dict[str, Any]) -> dict[str, str]:
    """Draw the figures of a run into ``figures/``, which is emptied first.

    Args:
        folder: the run folder.
        details: the content of ``evaluation.json``.

    Returns:
        Path of each image in the folder → its alternative text.
    """
    target = folder / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    made = {}
    matrix = np.array((details.get("confusion") or {}).get("matrix") or [], dtype=float)
    if matrix.size:
        made["confusion_matrix.png"] = (
            _confusion(matrix, details["labels"]),
            "Rows of each true label by predicted label",
        )
    if details.get("calibration"):
        made["reliability.png"] = _reliability(details["calibration"]), "Share of correct predictions by confidence"
    if details.get("numbers"):
        made["predictions.png"] = _numbers(details["numbers"][0]), "Predicted over true numbers"
    if made:
        target.mkdir()
    for name, (figure, _) in made.items():
        # Without matplotlib's version, so that the same run gives the same file.
        figure.savefig(target / name, dpi=150, metadata={"Software": None})
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
        places = range(1, len(names) + 1)
        axes.set_xticks(places, [_short(name) for name in names], rotation=45, ha="right", parse_math=False)
        axes.set_yticks(places, [_short(name) for name in names], parse_math=False)
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "…"


def _reliability(calibration: dict[str, Any]) -> Any:
    figure, axes = _figure(4.5, 4)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfectly calibrated")
    names = {"before": "before temperature scaling", "after": "after temperature scaling"}
    for part, name in names.items():
        if calibration[part]:
            points = [(each["confidence"], each["accuracy"]) for each in calibration[part]["curve"]]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name)
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
