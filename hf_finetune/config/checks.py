"""Refuse values that no run could use, before anything is read; one small function a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from hf_finetune.config.configuration import Config
    from hf_finetune.config.options import DataConfig, RunConfig


def check(config: Config) -> None:
    """Refuse values that no run could use; one small function a rule."""
    _check_sources(config.data)
    _check_splits(config.data)
    _check_imbalance(config.run)
    _check_numbers(config)
    if not config.model.model_name_or_path:
        raise UserError(
            "no checkpoint was given",
            where="--model_name_or_path",
            fix="name one, e.g. --model_name_or_path google-bert/bert-base-uncased or a local folder.",
        )
    for flag in ("hub_model_id", "hub_private_repo", "hub_revision", "create_pr"):
        given = config.run.create_pr if flag == "create_pr" else config.training.get(flag)
        if given and not config.training.get("push_to_hub"):
            raise UserError(
                f"--{flag} is given, but nothing will be pushed", where=f"--{flag}", fix="add --push_to_hub."
            )


def _check_sources(data: DataConfig) -> None:
    kinds = {
        "--dataset_name": data.dataset_name,
        "--train_file": data.train_file,
        "--train_dir": data.train_dir,
    }
    given = [flag for flag, value in kinds.items() if value]
    if len(given) > 1:
        raise UserError(
            f"{' and '.join(given)} exclude each other",
            where="the data flags",
            fix="keep the one that holds your data.",
        )
    for train, rest in (
        ("train_file", ("validation_file", "test_file")),
        ("train_dir", ("validation_dir", "test_dir")),
    ):
        for flag in rest:
            if getattr(data, flag) and not getattr(data, train):
                raise UserError(
                    f"--{flag} needs --{train}", where=f"--{flag}", fix=f"give the training rows with --{train}."
                )


# Each flag, and those that would say something else about the same rows.
_SPLITS_EXCLUDE = {
    "splits_file": ("validation_split", "test_split", "time_column", "num_folds"),
    "num_folds": ("test_split", "test_file", "test_dir", "time_column"),
    "test_split": ("test_file", "test_dir"),
    "time_column": ("group_column",),
}


def _check_splits(data: DataConfig) -> None:
    for one, others in _SPLITS_EXCLUDE.items():
        for other in others:
            if getattr(data, one) is not None and getattr(data, other) is not None:
                raise UserError(
                    f"--{one} and --{other} exclude each other", where=f"--{other}", fix="leave one of them out."
                )
    for one, other in (("num_folds", "fold"), ("fold", "num_folds")):
        if getattr(data, one) is not None and getattr(data, other) is None:
            raise UserError(
                f"--{one} needs --{other}",
                where=f"--{one}",
                fix="give both: --num_folds 5 --fold 1 tests on the first of five folds.",
            )


def _check_imbalance(run: RunConfig) -> None:
    """Each of these alone makes up for the frequencies of the classes; two of them would favour the rare ones."""
    asked = {
        "--class_weights": run.class_weights != "none",
        "--balanced_sampling": run.balanced_sampling,
        "--logit_adjustment": run.logit_adjustment != 0,
    }
    given = [flag for flag, value in asked.items() if value]
    if len(given) > 1:
        raise UserError(
            f"{given[0]} and {given[1]} both make up for the frequencies of the classes",
            where=given[1],
            fix="keep one of them; --focal_gamma goes with each.",
        )


def _check_numbers(config: Config) -> None:
    rules = [
        ("validation_split", config.data.validation_split, 0.0, 0.9),
        ("test_split", config.data.test_split, 0.0, 0.9),
        ("num_folds", config.data.num_folds, 2, None),
        ("fold", config.data.fold, 1, config.data.num_folds),
        ("focal_gamma", config.run.focal_gamma, 0.0, None),
        ("logit_adjustment", config.run.logit_adjustment, 0.0, None),
        ("layer_decay", config.strategy.layer_decay, 0.0, 1.0),
        ("lora_dropout", config.strategy.lora_dropout, 0.0, 1.0),
        ("lora_r", config.strategy.lora_r, 1, None),
        ("head_hidden_size", config.model.head_hidden_size, 1, None),
        ("max_length", config.inputs.max_length, 1, None),
        ("image_size", config.inputs.image_size, 1, None),
        ("rotation_degrees", config.inputs.rotation_degrees, 0, 180),
        ("mixup", config.inputs.mixup, 0, None),
        ("cutmix", config.inputs.cutmix, 0, None),
        ("activation_cache_max_gb", config.cache.activation_cache_max_gb, 0.001, None),
        ("activation_views", config.cache.activation_views, 0, 1000),
        ("early_stopping_patience", config.run.early_stopping_patience, 1, None),
        ("head_learning_rate", config.strategy.head_learning_rate, 0, None),
        ("learning_rate", config.training.get("learning_rate"), 0, None),
        ("num_train_epochs", config.training.get("num_train_epochs"), 0, None),
        ("per_device_train_batch_size", config.training.get("per_device_train_batch_size"), 1, None),
        ("per_device_eval_batch_size", config.training.get("per_device_eval_batch_size"), 1, None),
        ("gradient_accumulation_steps", config.training.get("gradient_accumulation_steps"), 1, None),
        ("seed", config.training.get("seed"), 0, 2**32 - 1),
        ("label_smoothing_factor", config.training.get("label_smoothing_factor"), 0.0, 1.0),
        ("max_train_samples", config.data.max_train_samples, 1, None),
        ("max_eval_samples", config.data.max_eval_samples, 1, None),
        ("max_predict_samples", config.data.max_predict_samples, 1, None),
    ]
    for name, value, low, high in rules:
        if value is not None and not (low <= value and (high is None or value <= high)):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(
                f"{value} is out of bounds; expected {bounds}", where=f"--{name}", fix=f"give --{name} {bounds}."
            )
