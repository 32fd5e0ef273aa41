"""A fine-tuned model with all that predictions need, for ``predict``, ``serve`` and other verbs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.config.options import ModelConfig
from hf_finetune.console import without_bars
from hf_finetune.evaluation.prediction.forward import predict_rows
from hf_finetune.models import load_artifact, load_settings
from hf_finetune.tasks import task_of_model
from hf_finetune.tasks.outputs import Output
from hf_finetune.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset


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
        from datasets.utils import logging

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
