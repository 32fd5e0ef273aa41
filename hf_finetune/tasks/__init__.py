"""The table of tasks. It imports neither torch nor transformers: the module of a task does that on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from hf_finetune.tasks.task import Task

# Pipeline tag of the Hub → input (a folder of hf_finetune.tasks.inputs), whose flags --help shows.
TASKS = {
    "text-classification": "text",
    "image-classification": "image",
    "token-classification": "text",
    "audio-classification": "audio",
}


def module_name(task: str) -> str:
    """Return the name of a task's module and recipe file, ``text_classification``; a ``UserError`` for no such task."""
    if task not in TASKS:
        raise UserError(f"there is no task {task!r}", where="TASK", fix=f"choose one of {', '.join(TASKS)}.")
    return task.replace("-", "_")


def get_task(name: str) -> Task:
    """Return the task of this name; a ``UserError`` if there is none."""
    task: Task = import_module(f"hf_finetune.tasks.{module_name(name)}").TASK
    return task


def task_of_model(settings: Any) -> Task:
    """Return the task of a fine-tuned model, found by the class in its configuration; a ``UserError`` if there is none."""
    import transformers

    own = getattr(settings, "mlp_head_on", None)
    named = {own} if own else set(getattr(settings, "architectures", None) or [])
    for task in map(get_task, TASKS):
        listed = getattr(transformers, task.auto_class)._model_mapping._model_mapping
        classes = {name for names in listed.values() for name in ([names] if isinstance(names, str) else names)}
        if named & classes or task.auto_class in (getattr(settings, "auto_map", None) or {}):
            return task
        # The configuration of a timm model that was not fine-tuned here has no class.
        if hasattr(settings, "pretrained_cfg") and settings.model_type in listed:
            return task
    what = f"the model was not fine-tuned for {' or '.join(TASKS)} ({' '.join(named) or settings.model_type})"
    raise UserError(what, where="RUN_OR_MODEL", fix="name a fine-tuned model.")
