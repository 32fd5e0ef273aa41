"""Read the files of a finished run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.errors import UserError
from hf_finetune.tasks import get_task
from hf_finetune.tasks.outputs import Output


@dataclass
class Answers:
    """``predictions.parquet`` of a run, and the output that its raw outputs belong to."""

    folder: Path
    ids: list[str]
    output: Output  # with the run's thresholds and temperature
    raw: np.ndarray  # shape (rows, ...)
    truth: np.ndarray  # the labels as numbers, shape (rows, ...)
    groups: np.ndarray | None  # group of each row, if the run has a group column
    metric: str  # the headline metric
    texts: str | None  # a hash of the texts; None for images
    columns: dict[str, list[str]]  # standard name → names of the columns that were read

    @cached_property
    def statistics(self) -> Any:
        """The statistics from which metrics and comparisons are computed."""
        return self.output.statistics(self.raw, self.truth)


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Return the content of ``evaluation.json``.

    Raises:
        UserError: the file does not exist.
    """
    path = folder / "evaluation.json"
    if not path.is_file():
        raise UserError(
            "there is no evaluation.json: this is not a finished run",
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

    about = read_evaluation(folder)
    path = folder / "predictions.parquet"
    if not path.is_file():
        raise UserError(
            "the run has no held-out rows", where=str(folder), fix="train it with --test_file or --test_split."
        )
    rows = pd.read_parquet(path)
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
