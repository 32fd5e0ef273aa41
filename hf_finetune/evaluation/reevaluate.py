"""Evaluate a finished run again, on its own held-out rows or on a new file or folder."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_finetune.config import Config
from hf_finetune.data import Splits, load_splits
from hf_finetune.data.load import load_labelled
from hf_finetune.data.rows.audit import audit_files
from hf_finetune.data.splits.split_file import FILE as SPLITS
from hf_finetune.errors import UserError
from hf_finetune.evaluation.judge import Judged
from hf_finetune.evaluation.prediction.labeller import load_labeller
from hf_finetune.evaluation.results import Results, write_results
from hf_finetune.evaluation.run_folder import read_evaluation
from hf_finetune.files import public_name, writing
from hf_finetune.tasks.task import Task

# Options that say how rows are divided, and those that say which rows are read.
_DIVISION: dict[str, Any] = dict.fromkeys(("validation_split", "test_split", "num_folds", "fold", "time_column"))
_SOURCES: dict[str, Any] = _DIVISION | dict.fromkeys(
    ("dataset_name", "train_file", "train_dir", "validation_file", "validation_dir", "test_file", "test_dir",
     "splits_file", "max_train_samples", "max_eval_samples", "max_predict_samples")
)  # fmt: skip


def reevaluate(
    run: Path, config: Config, output: Path, *, file: str | None = None, folder: str | None = None
) -> Results:
    """Evaluate the saved model of a run; write ``metrics.json``, ``evaluation.json`` and ``predictions.parquet``.

    The rows are those of a labelled ``file``, or of a ``folder`` with images or ``.txt`` files in one folder per class;
    without both, the test rows of the run, or its validation rows. The results go to the folder ``output``. A ``UserError``
    says that the run is not finished, or that the model cannot read the rows.
    """
    began = time.perf_counter()
    about = read_evaluation(run)
    labeller = load_labeller(str(run), trust_remote_code=config.model.trust_remote_code)
    task = labeller.task
    if file or folder:
        data = replace(config.data, **_SOURCES | {"train_file": file, "train_dir": folder})
        name, source = "test", str(file or folder)
        split = load_labelled(data, task, labeller.output)
        split = audit_files(split, task.input.rows, source)
    else:
        name, split, _ = held_out_rows(run, config, task)
        source = about["source"]
    if split is None:
        raise UserError("the run has no held-out rows", where=str(run), fix="give labelled rows with --test_file.")
    raw = labeller.predict(labeller.encode(split), int(config.training.get("per_device_eval_batch_size", 64)))
    answers = {name: Judged(split, labeller.output, raw, labeller.output.truth_of(split), task.input)}
    rows = {name: {"rows": len(split), "counts": None}}
    with writing("folder", f"--output_dir {output}", "choose another one."):
        output.mkdir(parents=True, exist_ok=True)
    about |= {"source": public_name(source), "data": {"splits": rows, "notes": [], "skipped": 0}}
    return write_results(output, answers, config.run.metric, about, {}, began)


def held_out_rows(run: Path, config: Config, task: Task) -> tuple[str, Dataset | None, Splits]:
    """Read the data of a run again, divided as it was; return the name and the rows of the evaluated split, and all splits.

    Raises:
        UserError: the data cannot be read.
    """
    data = config.data
    if (run / SPLITS).exists():
        data = replace(data, **_DIVISION, splits_file=str(run / SPLITS))
    splits = load_splits(data, task)
    name = "validation" if splits.test is None else "test"
    rows = getattr(splits, name)
    if rows is not None:
        rows = audit_files(rows, task.input.rows, f"{name} split", data.on_bad(task.input.rows.cell.column))
    return name, rows, splits
