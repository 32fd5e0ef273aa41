"""TrainingArguments of a phase: the user's values and the plan's, on top of what every run needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, get_scheduler
from transformers.integrations import get_available_reporting_integrations

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.errors import UserError, first_line
from hf_finetune.evaluation.metrics import metric_key
from hf_finetune.models.precision import precision
from hf_finetune.strategies import Phase


def training_arguments(
    config: Config, phase: Phase, folder: Path, metrics: dict[str, bool], *, validates: bool
) -> TrainingArguments:
    """Return the arguments of one phase, whose checkpoints go into ``folder``; those that the user gave take precedence.

    ``metrics`` says of each built-in metric whether greater is better; the first one chooses the best epoch.

    Raises:
        UserError: the values contradict each other, or the hardware does not support them.
    """
    # We push, resume and split batches ourselves: the Trainer would push every checkpoint, and find a batch size by changing
    # the steps.
    ours = ("push_to_hub", "hub_", "resume_from_checkpoint", "auto_find_batch_size")
    asked = {key: value for key, value in config.training.items() if not key.startswith(ours)}
    needed: dict[str, Any] = {
        "report_to": "none",
        "logging_strategy": "epoch",
        "save_total_limit": 1,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "use_cpu": not torch.accelerator.is_available(),
    }
    values = needed | precision() | _watching(config, metrics, validates) | asked
    values |= {"output_dir": str(folder), "learning_rate": phase.learning_rate, "num_train_epochs": phase.epochs}
    fp16 = values.get("fp16") or os.environ.get("ACCELERATE_MIXED_PRECISION") == "fp16"
    if fp16 and values["use_cpu"]:
        raise UserError("fp16 needs a GPU, and none was found", where="--fp16", fix="use --bf16, or remove the flag.")
    if values.get("fp16"):
        values["bf16"] = False
    _refuse_absent_trackers(values["report_to"])
    try:
        arguments = TrainingArguments(**values)
    except (ValueError, ImportError) as error:
        raise UserError(
            first_line(error), where="the training arguments", fix="change the value that the message names."
        ) from error
    if config.data.streaming:
        # Else the first process would encode the batches of all, and could not join those of different lengths.
        arguments.accelerator_config.dispatch_batches = False
    _refuse_scheduler(arguments)
    if config.training.get("auto_find_batch_size") and is_sharded(arguments):
        raise UserError(
            "batches cannot be split while the weights are sharded over processes",
            where="--auto_find_batch_size",
            fix="give --per_device_train_batch_size and --gradient_accumulation_steps instead.",
        )
    return arguments


def is_sharded(arguments: TrainingArguments) -> bool:
    """Return whether FSDP or DeepSpeed shards the training, by the arguments or the launcher."""
    launched = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return bool(arguments.fsdp or arguments.deepspeed or any(os.environ.get(name) == "true" for name in launched))


def _watching(config: Config, metrics: dict[str, bool], validates: bool) -> dict[str, Any]:
    """Return the arguments that evaluate and save once per epoch and keep the best model, unless the user asked otherwise."""
    asked = config.training
    evaluates = asked.get("eval_strategy", "epoch") if validates else "no"
    saves = asked.get("save_strategy", evaluates)
    watches = evaluates != "no" and saves in (evaluates, "best")
    if config.run.early_stopping_patience and not watches:
        on_nothing = "early stopping needs an evaluation on validation rows"
        unsaved = f"early stopping needs a checkpoint for each evaluation; --save_strategy is {saves}"
        raise UserError(
            on_nothing if evaluates == "no" else unsaved,
            where="--early_stopping_patience",
            fix="give a validation split, and set neither --eval_strategy nor --save_strategy.",
        )
    if evaluates == "no":
        return {"eval_strategy": "no", "save_strategy": "epoch"}
    if not watches:
        say(f"--save_strategy is {saves} and --eval_strategy {evaluates}: the last model is kept, not the best one.")
        return {"eval_strategy": evaluates}
    metric = config.run.metric or next(iter(metrics))
    return ({"save_steps": asked["eval_steps"]} if "eval_steps" in asked else {}) | {
        "eval_strategy": evaluates,
        "save_strategy": saves,
        "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_{metric_key(metric)}",
        "greater_is_better": metrics.get(metric, True),
    }


def _refuse_absent_trackers(report_to: str | list[str]) -> None:
    wanted = {report_to} if isinstance(report_to, str) else set(report_to)
    for name in sorted(wanted - {"none", "all", *get_available_reporting_integrations()}):
        raise UserError(
            f"{name} is not installed", where="--report_to", fix=f"pip install {name}, or choose another tracker."
        )


def _refuse_scheduler(arguments: TrainingArguments) -> None:
    """Try the learning-rate schedule on a dummy weight: transformers checks its arguments only after the data is read."""
    if not arguments.lr_scheduler_kwargs:
        return
    kind, kwargs = arguments.lr_scheduler_type, dict(arguments.lr_scheduler_kwargs)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    try:
        get_scheduler(kind, optimizer, num_warmup_steps=1, num_training_steps=2, scheduler_specific_kwargs=kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the schedule {kind.value} does not accept these arguments ({first_line(error)})",
            where="--lr_scheduler_kwargs",
            fix="give arguments of its function in transformers.optimization, or remove the flag.",
        ) from error
