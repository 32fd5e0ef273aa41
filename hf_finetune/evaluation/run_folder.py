"""What a finished run folder holds, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs.targets import Target, make_target


@dataclass
class Answers:
    """``predictions.parquet`` of a run, and what its logits mean.

    Args:
        folder: the run.
        ids: of the rows.
        target: with the run's thresholds and temperature.
        logits: shape (rows, labels).
        labels: ids, shape (rows,), or numbers, shape (rows, labels).
        groups: what rows belong together by, where the run was told.
        metric: the one that its headline shows.
        texts: what tells the texts from others; None of images.
        columns: the user's names of the columns that were read, by standard name.
    """

    folder: Path
    ids: list[str]
    target: Target
    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    metric: str
    texts: str | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A file of a run folder.

    Raises:
        UserError: it is not there.
    """
    path = folder / name
    if not path.is_file():
        raise UserError(
            f"there is no {name}: this is no finished run",
            where=str(folder),
            fix="name the --output_dir of a run that came to its end.",
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def read_answers(folder: Path) -> Answers:
    """The judged rows of a run.

    Raises:
        UserError: the folder is no finished run, or one that held no rows out.
    """
    import pandas as pd

    about = read_json(folder, "evaluation.json")
    if not (folder / "predictions.parquet").is_file():
        raise UserError("the run held no rows out", where=str(folder), fix="train it with --test_file or --test_split.")
    rows = pd.read_parquet(folder / "predictions.parquet")
    names = about["labels"]
    return Answers(
        folder,
        rows["id"].tolist(),
        make_target(about["problem"], names, **about["tuned"]),
        np.stack(rows["logits"].to_list()),
        _labels(rows["label"].tolist(), names, about["problem"]),
        rows["group"].to_numpy() if "group" in rows else None,
        about["headline"]["metric"],
        about["texts"],
        about["columns"],
    )


def _labels(cells: list[Any], names: list[str], problem: str) -> np.ndarray:
    ids = {name: index for index, name in enumerate(names)}
    if problem == "regression":
        return np.array(cells, dtype=np.float64).reshape(len(cells), -1) if len(names) == 1 else np.stack(cells)
    if problem == "multi_label_classification":
        found = np.zeros((len(cells), len(names)))
        for row, cell in enumerate(cells):
            found[row, [ids[name] for name in cell]] = 1
        return found
    return np.array([ids[cell] for cell in cells])
