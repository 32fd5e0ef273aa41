"""The one table of tasks. It imports neither torch nor transformers: a task's module does, when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from hf_finetune.tasks.task import Task

# Pipeline tags of the Hub, and what each reads: an input of hf_finetune.tasks.inputs, whose flags --help shows.
# The module and the recipe of "text-classification" are called text_classification.
TASKS = {"text-classification": "text", "image-classification": "image"}


def module_name(task: str) -> str:
    """Return what the module of a task and its recipe file are called, without ``.py``.

    Raises:
        UserError: there is no such task.
    """
    if task not in TASKS:
        raise UserError(f"there is no task {task!r}", where="TASK", fix=f"choose one of {', '.join(TASKS)}.")
    return task.replace("-", "_")


def get_task(name: str) -> Task:
    """Return the task of this name.

    Raises:
        UserError: there is no such task.
    """
    task: Task = import_module(f"hf_finetune.tasks.{module_name(name)}").TASK
    return task


def task_of_model(settings: Any) -> Task:
    """Return the task of a fine-tuned model, by the class that its configuration names.

    Args:
        settings: the ``PreTrainedConfig`` of the model.

    Raises:
        UserError: it is a model of no task that this package has.
    """
    import transformers

    own = getattr(settings, "mlp_head_on", None)
    named = {own} if own else set(getattr(settings, "architectures", None) or [])
    for task in map(get_task, TASKS):
        listed = getattr(transformers, task.auto_class)._model_mapping._model_mapping
        classes = {name for names in listed.values() for name in ([names] if isinstance(names, str) else names)}
        if named & classes or task.auto_class in (getattr(settings, "auto_map", None) or {}):
            return task
        # A model of timm that was never fine-tuned here names no class.
        if hasattr(settings, "pretrained_cfg") and settings.model_type in listed:
            return task
    raise UserError(
        f"this is no classifier ({' '.join(named) or settings.model_type})",
        where="RUN_OR_MODEL",
        fix="name a fine-tuned model.",
    )
