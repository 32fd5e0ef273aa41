"""Read the files of a finished run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task
from hf_finetune.tasks.outputs import Output


@dataclass
class Answers:
    """``predictions.parquet`` of a run, and the output that its raw outputs belong to.

    Args:
        folder: the run folder.
        ids: ids of the rows.
        output: the output with the run's thresholds and temperature.
        raw: raw outputs, shape (rows, ...).
        truth: the labels as numbers, shape (rows, ...).
        groups: group of each row, if the run has a group column.
        metric: the headline metric.
        texts: a hash of the texts; None for images.
        columns: standard name → names of the columns that were read.
    """

    folder: Path
    ids: list[str]
    output: Output
    raw: np.ndarray
    truth: np.ndarray
    groups: np.ndarray | None
    metric: str
    texts: str | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def statistics(self) -> Any:
        """The statistics from which metrics and comparisons are computed."""
        return self.output.statistics(self.raw, self.truth)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of a JSON file of a run folder.

    Raises:
        UserError: the file does not exist.
    """
    path = folder / name
    if not path.is_file():
        raise UserError(
            f"there is no {name}: this is not a finished run",
            where=str(folder),
            fix="give the --output_dir of a finished run.",
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def read_answers(folder: Path) -> Answers:
    """Return the predictions of a run on its held-out rows.

    Raises:
        UserError: the run is not finished, or has no held-out rows.
    """
    import pandas as pd

    about = read_json(folder, "evaluation.json")
    if not (folder / "predictions.parquet").is_file():
        raise UserError(
            "the run has no held-out rows", where=str(folder), fix="train it with --test_file or --test_split."
        )
    rows = pd.read_parquet(folder / "predictions.parquet")
    output = get_task(about["task"]).outputs.restore(about["problem"], about["labels"], about["tuned"])
    return Answers(
        folder,
        rows["id"].tolist(),
        output,
        output.read_raw(rows["logits"].tolist()),
        output.read_truth(rows["label"].tolist()),
        rows["group"].to_numpy() if "group" in rows else None,
        about["headline"]["metric"],
        about["texts"],
        about["columns"],
    )
