"""A model over all rows, in any number of processes; and a fine-tuned model with all that its predictions need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from datasets.utils import logging

from hf_finetune.activations import CachedRows, Workload, cache_activations
from hf_finetune.activations.rows import lengths_of, load_batch, model_inputs
from hf_finetune.config import Config
from hf_finetune.config.options import ModelConfig
from hf_finetune.console import without_bars
from hf_finetune.models import Checkpoint, load_artifact, load_settings
from hf_finetune.tasks import task_of_model
from hf_finetune.tasks.outputs import Output
from hf_finetune.tasks.outputs.logits import LogitOutput
from hf_finetune.tasks.outputs.output import RawRows
from hf_finetune.tasks.task import Task


def predict_rows(
    model: Any,
    rows: Any,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    batch_size: int,
    progress: Callable[[float], Any] | None = None,
    *,
    predict: Callable[[Any, dict[str, Any]], RawRows] = LogitOutput.predict,
    pool: Callable[[np.ndarray, Any], np.ndarray] = LogitOutput.pool,
) -> np.ndarray:
    """Return the raw outputs of all rows, in order; each process computes a share, and every process gets all.

    They are a float32 array whose first axis is rows, or an object array of shape (rows,) if ``predict`` returns lists.
    Results are placed by row index, and each row must occur exactly once. Texts are sorted by length to save padding.

    Args:
        rows: map-style data set of model inputs; ``labels`` are ignored.
        progress: called after each batch with its share of the rows; without it a bar is shown.
        predict: returns the raw output of each row of a batch; by default logits of shape (rows, labels).
        pool: combines the chunks of long texts, whose column ``row`` has the text of each, to one raw output per text.
    """
    from tqdm.auto import tqdm

    state = PartialState()
    model = model.to(state.device).eval()
    order = np.argsort(lengths_of(rows), kind="stable")[state.process_index :: state.num_processes]
    found: list[tuple[np.ndarray, RawRows]] = []
    quiet = None if state.is_main_process and progress is None else True
    for indices in tqdm(_batches(rows, order, batch_size), desc="Predicting", disable=quiet, leave=False):
        with torch.inference_mode():
            found.append((indices, predict(model, model_inputs(load_batch(rows, collate, indices), state.device))))
        if progress is not None:
            progress(len(indices) / len(order))
    raw = scatter_rows(gather_object(found), len(rows))
    return pool(raw, rows) if "row" in getattr(rows, "column_names", ()) else raw


def _batches(rows: Any, order: np.ndarray, size: int) -> list[np.ndarray]:
    """Return the rows of each batch; rows whose ``same_length`` is true share one with rows of their length only."""
    if not getattr(rows, "same_length", False):
        return [order[start : start + size] for start in range(0, len(order), size)]
    lengths = lengths_of(rows)[order]
    groups = np.split(order, np.flatnonzero(np.diff(lengths)) + 1)
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


def cached_rows(
    config: Config,
    task: Task,
    checkpoint: Checkpoint,
    trains: set[str] | None,
    parts: dict[str, Any],
    name: str,
    half: torch.dtype | None = None,
) -> CachedRows:
    """Return encoded rows, with the output of the stages below those in ``trains`` if caching it pays.

    ``name`` is that of the work in messages; ``trains`` is None if any stage may have changed.
    """
    rows = {part: task.input.encode(split, checkpoint.processor) for part, split in parts.items()}
    collate = task.input.collator(checkpoint.processor)
    if trains is None or not parts:
        return CachedRows(rows, collate)
    for stage in checkpoint.stages:
        for parameter in stage.parameters:
            checkpoint.model.get_parameter(parameter).requires_grad_(stage.name in trains)
    size = int(config.training["per_device_eval_batch_size"])
    work = Workload(name, rows, collate, task.input.fingerprint, 1, half, size)
    return cache_activations(config.cache, checkpoint, work)


def scatter_rows(parts: list[tuple[np.ndarray, RawRows]], count: int) -> np.ndarray:
    """Put the values of ``count`` rows, each occurring once, in order; ``parts`` are indices and values of each batch."""
    indices = np.concatenate([part[0] for part in parts])
    if len(indices) != count or len(np.unique(indices)) != count:
        raise RuntimeError(
            f"predicted {len(indices)} rows, {len(np.unique(indices))} of them different, expected {count}"
        )
    if isinstance(parts[0][1], np.ndarray):
        return np.concatenate([values for _, values in parts])[np.argsort(indices)]
    result = np.empty(count, dtype=object)
    for index, row in zip(indices, (row for _, values in parts for row in values), strict=True):
        result[index] = row
    return result


@dataclass(frozen=True)
class Labeller:
    """A model in evaluation mode and float32, with its task, its processor and the output that interprets it."""

    task: Task
    model: Any
    processor: Any
    output: Output

    @property
    def input_columns(self) -> dict[str, list[str]] | None:
        """Return standard name → columns that the model was trained on; None if unknown."""
        return getattr(self.model.config, "input_columns", None)

    def encode(self, rows: Dataset) -> Any:
        """Return the model inputs of rows with standard columns."""
        with without_bars(logging):
            return self.task.input.encode(rows, self.processor)

    def predict(self, inputs: Any, batch_size: int, progress: Callable[[float], Any] | None = None) -> np.ndarray:
        """Return raw outputs of encoded rows; ``progress`` is called with each batch's share of the rows."""
        collate, predict, pool = self.task.input.collator(self.processor), self.output.predict, self.output.pool
        return predict_rows(self.model, inputs, collate, batch_size, progress, predict=predict, pool=pool)


def model_folder(name: str) -> str:
    """Return the model folder of a run folder; a model folder or Hub id unchanged."""
    folder = Path(name, "model")
    return str(folder) if folder.is_dir() else name


def task_of(name: str, *, trust_remote_code: bool = False) -> tuple[Task, Any]:
    """Return the task of a run, model folder or Hub id, and the model's configuration; a ``UserError`` if there is none."""
    settings = load_settings(ModelConfig(model_name_or_path=model_folder(name), trust_remote_code=trust_remote_code))
    return task_of_model(settings), settings


def load_labeller(name: str, *, trust_remote_code: bool = False, task: Task | None = None) -> Labeller:
    """Return the model of a run folder, model folder or Hub id, whose ``task`` may be known already.

    A ``UserError`` says that there is no model, no such task, or neither tokenizer nor image processor.
    """
    task = task or task_of(name, trust_remote_code=trust_remote_code)[0]
    folder = model_folder(name)
    model = load_artifact(folder, task.auto_class, trust_remote_code=trust_remote_code)
    processor = task.input.load_processor(folder, trust_remote_code=trust_remote_code)
    return Labeller(task, model, processor, task.outputs.of_model(model.config))
