"""The rows that a run was judged on, read again from where its ``config.yaml`` says that they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.config import Config, parse
from hf_finetune.data import load_splits
from hf_finetune.data.rows.audit import audit_images
from hf_finetune.data.splits.split_file import FILE as SPLITS
from hf_finetune.data.splits.splits import spaced
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError
from hf_finetune.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class JudgedRows:
    """Rows of a run.

    Args:
        split: ``test``, or ``validation`` where there were no test rows.
        rows: those of ``predictions.parquet``, evenly spaced where there are more than were wanted.
        logits: what ``predictions.parquet`` says of them, shape (rows, labels).
        others: rows to calibrate on: of the training split, of a stream those of the validation split.
    """

    split: str
    rows: Dataset
    logits: np.ndarray
    others: Dataset


def read_config(run: Path) -> Config:
    """The settings of a finished run.

    Raises:
        UserError: this is no folder of a finished run.
    """
    for name in ("config.yaml", "predictions.parquet", "model/config.json"):
        if not (run / name).is_file():
            raise UserError(
                f"there is no {name}: a model is exported from a run, whose rows it is checked on",
                where=str(run),
                fix="name the --output_dir of a finished run that had validation or test rows.",
            )
    return parse(["--config", str(run / "config.yaml")])


def read_judged(run: Path, config: Config, task: Task, most: int, dataset: Any = None) -> JudgedRows:
    """The judged rows with their labels, in the splits of the run.

    Args:
        run: its folder.
        config: its settings; they are given the run's ``splits.parquet``.
        task: what a row is.
        most: number of judged rows, and of others, that are wanted at most.
        dataset: the ``DatasetDict`` that the run was given in Python.

    Raises:
        UserError: they cannot be read any more, or are not those that the run was judged on.
    """
    import pandas as pd

    if (run / SPLITS).exists():
        config.data.splits_file = str(run / SPLITS)
    try:
        splits = load_splits(config.data, task, dataset)
    except UserError as error:
        at = f"{error.where}: " if error.where else ""
        raise UserError(
            f"the rows that the run was judged on cannot be read again ({at}{error.what}), and nothing is exported unchecked",
            where=str(run),
            fix=f"put the data back, or mend its path in {run / 'config.yaml'}.",
        ) from error
    split = "validation" if splits.test is None else "test"
    judged = getattr(splits, split)
    if judged is not None and "image" in judged.column_names:
        judged = audit_images(judged, f"{split} split", config.data.on_bad_image)
    known = pd.read_parquet(run / "predictions.parquet")
    if judged is None or judged["id"][:] != known["id"].tolist():
        raise UserError(
            f"the {split} rows that are read now are not those of predictions.parquet",
            where=str(run),
            fix=f"give back the data that the run had, or mend its path in {run / 'config.yaml'}.",
        )
    chosen = spaced(len(judged), most)
    others = (splits.validation or judged) if isinstance(splits.train, Stream) else splits.train
    others = others.select(spaced(len(others), most))
    if "image" in others.column_names:
        others = audit_images(others, "training split", config.data.on_bad_image)
    return JudgedRows(split, judged.select(chosen), np.stack(known["logits"])[chosen], others)
