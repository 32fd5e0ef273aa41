"""TrainingArguments of a phase: the user's values and the plan's, on top of what every run needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.errors import UserError, first_line
from hf_finetune.evaluation.metrics import metric_key
from hf_finetune.models.precision import precision
from hf_finetune.strategies import Phase

# We do these ourselves: the Trainer would push every checkpoint, and change the steps to find a batch size.
_NOT_FOR_THE_TRAINER = frozenset(
    {
        "push_to_hub",
        "hub_model_id",
        "hub_token",
        "hub_private_repo",
        "hub_revision",
        "hub_strategy",
        "hub_always_push",
        "resume_from_checkpoint",
        "auto_find_batch_size",
    }
)


def training_arguments(
    config: Config, phase: Phase, folder: Path, metrics: dict[str, bool], *, validates: bool
) -> TrainingArguments:
    """Return the arguments of one phase.

    Args:
        config: its ``training`` values take precedence.
        phase: gives epochs and learning rate.
        folder: where the checkpoints of the phase go.
        metrics: built-in metric → whether greater is better; the first one chooses the best epoch.
        validates: whether there are validation rows.

    Raises:
        UserError: the values contradict each other, or the hardware does not support them.
    """
    asked = {key: value for key, value in config.training.items() if key not in _NOT_FOR_THE_TRAINER}
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
    _refuse_impossible(values)
    _refuse_absent_trackers(values["report_to"])
    try:
        arguments = TrainingArguments(**values)
    except (ValueError, ImportError) as error:
        raise UserError(
            first_line(error),
            where="the training arguments",
            fix="change the value that the message names.",
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
    strategy = str(getattr(asked.get("eval_strategy"), "value", asked.get("eval_strategy", "epoch")))
    if not validates or strategy == "no":
        if config.run.early_stopping_patience:
            raise UserError(
                "early stopping needs an evaluation on validation rows",
                where="--early_stopping_patience",
                fix="give a validation split, and do not set --eval_strategy to no.",
            )
        return {"eval_strategy": "no", "save_strategy": "epoch"}
    saves = str(getattr(asked.get("save_strategy"), "value", asked.get("save_strategy", strategy)))
    if saves not in (strategy, "best"):
        if config.run.early_stopping_patience:
            raise UserError(
                f"early stopping needs a checkpoint for each evaluation; --save_strategy is {saves}",
                where="--early_stopping_patience",
                fix=f"remove --save_strategy, or set it to {strategy}.",
            )
        say(f"--save_strategy is {saves} and --eval_strategy {strategy}: the last model is kept, not the best one.")
        return {"eval_strategy": strategy}
    metric = config.run.metric or next(iter(metrics))
    watching: dict[str, Any] = {"eval_strategy": strategy, "save_strategy": saves}
    if "eval_steps" in asked:
        watching["save_steps"] = asked["eval_steps"]
    return watching | {
        "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_{metric_key(metric)}",
        "greater_is_better": metrics.get(metric, True),
    }


def _refuse_absent_trackers(report_to: Any) -> None:
    from transformers.integrations import get_available_reporting_integrations

    wanted = [report_to] if isinstance(report_to, str) else list(report_to or [])
    absent = set(wanted) - {"none", "all"} - set(get_available_reporting_integrations())
    if absent:
        name = sorted(absent)[0]
        raise UserError(
            f"{name} is not installed", where="--report_to", fix=f"pip install {name}, or choose another tracker."
        )


def _refuse_scheduler(arguments: TrainingArguments) -> None:
    """Try the learning-rate schedule on a dummy weight: transformers checks its arguments only after the data is read."""
    if not arguments.lr_scheduler_kwargs:
        return
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    steps = {"num_warmup_steps": 1, "num_training_steps": 2}
    try:
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer,
            **steps,
            scheduler_specific_kwargs=dict(arguments.lr_scheduler_kwargs),
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the schedule {arguments.lr_scheduler_type.value} does not accept these arguments ({first_line(error)})",
            where="--lr_scheduler_kwargs",
            fix="give arguments of its function in transformers.optimization, or remove the flag.",
        ) from error


def _refuse_impossible(values: dict[str, Any]) -> None:
    fp16 = values.get("fp16") or os.environ.get("ACCELERATE_MIXED_PRECISION") == "fp16"
    if fp16 and values.get("use_cpu"):
        raise UserError("fp16 needs a GPU, and none was found", where="--fp16", fix="use --bf16, or remove the flag.")
    if values.get("fp16") and values.get("bf16"):
        values["bf16"] = False
