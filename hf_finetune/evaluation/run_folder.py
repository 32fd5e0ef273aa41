"""What a finished run folder holds, read back."""

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
    """``predictions.parquet`` of a run, and what its raw outputs mean.

    Args:
        folder: the run.
        ids: of the rows.
        output: with the run's thresholds and temperature.
        raw: raw outputs, the first axis of which is rows.
        truth: the labels of the rows in numbers.
        groups: what rows belong together by, where the run was told.
        metric: the one that its headline shows.
        texts: what tells the texts from others; None of images.
        columns: the user's names of the columns that were read, by standard name.
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
        """What metrics and comparisons are computed from."""
        return self.output.statistics(self.raw, self.truth)


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
