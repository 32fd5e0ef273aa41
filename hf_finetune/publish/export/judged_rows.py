"""Reread the evaluated rows of a run from the data named in its ``config.yaml``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.config import Config, parse
from hf_finetune.data import load_splits
from hf_finetune.data.rows.audit import audit_files
from hf_finetune.data.splits.split_file import FILE as SPLITS
from hf_finetune.data.splits.splits import spaced
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError
from hf_finetune.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class JudgedRows:
    """Evaluated rows of a run, and rows for calibration.

    Args:
        split: ``test``, or ``validation`` if there were no test rows.
        rows: the rows of ``predictions.parquet``, or an evenly spaced part of them.
        raw: their raw outputs in ``predictions.parquet``.
        others: rows to calibrate on, from the training split, or from the validation split of a stream.
    """

    split: str
    rows: Dataset
    raw: np.ndarray
    others: Dataset


def read_config(run: Path) -> Config:
    """Return the configuration of a finished run.

    Raises:
        UserError: the run is not finished, or has no held-out rows.
    """
    for name in ("config.yaml", "predictions.parquet", "model/config.json"):
        if not (run / name).is_file():
            raise UserError(
                f"there is no {name}; the export needs a finished run and its evaluated rows",
                where=str(run),
                fix="give the --output_dir of a finished run with validation or test rows.",
            )
    return parse(["--config", str(run / "config.yaml")])


def read_judged(run: Path, config: Config, task: Task, most: int, dataset: Any = None) -> JudgedRows:
    """Read the evaluated rows with their labels, in the splits of the run.

    Args:
        run: the run folder.
        config: its configuration.
        task: its task.
        most: largest number of evaluated rows, and of rows for calibration.
        dataset: the ``DatasetDict`` of a run that was started from Python.

    Raises:
        UserError: the rows cannot be read, or are not those that the run was evaluated on.
    """
    import pandas as pd

    data = replace(config.data, splits_file=str(run / SPLITS)) if (run / SPLITS).exists() else config.data
    try:
        splits = load_splits(data, task, dataset)
    except UserError as error:
        at = f"{error.where}: " if error.where else ""
        raise UserError(
            f"the export is checked on the evaluated rows of the run, which cannot be read ({at}{error.what})",
            where=str(run),
            fix=f"restore the data, or correct its path in {run / 'config.yaml'}.",
        ) from error
    split = "validation" if splits.test is None else "test"
    judged = getattr(splits, split)
    if judged is not None:
        judged = audit_files(judged, task.input.rows, f"{split} split", config.data.on_bad_image)
    known = pd.read_parquet(run / "predictions.parquet")
    if judged is None or judged["id"][:] != known["id"].tolist():
        raise UserError(
            f"the {split} rows in the data are not those of predictions.parquet",
            where=str(run),
            fix=f"restore the data of the run, or correct its path in {run / 'config.yaml'}.",
        )
    chosen = spaced(len(judged), most)
    others = (splits.validation or judged) if isinstance(splits.train, Stream) else splits.train
    others = others.select(spaced(len(others), most))
    others = audit_files(others, task.input.rows, "training split", config.data.on_bad_image)
    return JudgedRows(split, judged.select(chosen), splits.output.read_raw(known["logits"].tolist())[chosen], others)
