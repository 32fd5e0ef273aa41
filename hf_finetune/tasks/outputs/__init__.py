"""Outputs: the kinds of label, each with its losses, its metrics and the answers that it gives."""

from __future__ import annotations

from typing import Any

from hf_finetune.tasks.outputs.multi_label import MultiLabel
from hf_finetune.tasks.outputs.output import Answer, Output, Section
from hf_finetune.tasks.outputs.regression import Regression
from hf_finetune.tasks.outputs.single_label import SingleLabel

__all__ = [
    "OUTPUTS",
    "Answer",
    "MultiLabel",
    "Output",
    "Regression",
    "Section",
    "SingleLabel",
    "output_of",
    "restore_output",
]

OUTPUTS: tuple[type[Output], ...] = (MultiLabel, Regression, SingleLabel)


def restore_output(name: str | None, names: list[str], tuned: dict[str, Any]) -> Output:
    """Return the output of a ``problem_type``; one class a row where there is none, as transformers has it."""
    kind = next((kind for kind in OUTPUTS if name == kind.NAME), SingleLabel)
    return kind.restore(names, tuned)


def output_of(settings: Any) -> Output:
    """Return the output of a saved model, read off its configuration."""
    names = [settings.id2label[index] for index in range(len(settings.id2label))]
    return restore_output(getattr(settings, "problem_type", None), names, vars(settings))
