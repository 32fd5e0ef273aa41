"""Refuse values that no run could use, before anything is read."""

from __future__ import annotations

from hf_finetune.config.options import Config
from hf_finetune.errors import UserError

# Each flag, and those that would say something else about the same rows.
_EXCLUDES = {
    "dataset_name": ("train_file", "train_dir"),
    "train_file": ("train_dir",),
    "splits_file": ("validation_split", "test_split", "time_column", "num_folds"),
    "num_folds": ("test_split", "test_file", "test_dir", "time_column"),
    "test_split": ("test_file", "test_dir"),
    "time_column": ("group_column",),
    "empty_rows_every": ("balanced_sampling", "streaming"),
}
_NEEDS = {
    "validation_file": "train_file",
    "test_file": "train_file",
    "validation_dir": "train_dir",
    "test_dir": "train_dir",
    "num_folds": "fold",
    "fold": "num_folds",
    **dict.fromkeys(("hub_model_id", "hub_private_repo", "hub_revision", "create_pr"), "push_to_hub"),
}
# Each of these alone makes up for the frequencies of the classes; two of them would favour the rare ones.
_FOR_RARE_CLASSES = {"class_weights": "none", "balanced_sampling": False, "logit_adjustment": 0}
_ROWS = ("max_train_samples", "max_eval_samples", "max_predict_samples")
_BATCHES = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
_SIZES = ("lora_r", "head_hidden_size", "max_length", "image_size", "early_stopping_patience", "empty_rows_every")
_RATES = ("learning_rate", "head_learning_rate", "num_train_epochs", "mixup", "cutmix")
_BOUNDS: dict[str, tuple[float, float | None]] = {
    **dict.fromkeys((*_ROWS, *_BATCHES, *_SIZES), (1, None)),
    **dict.fromkeys(_RATES, (0, None)),
    **dict.fromkeys(("focal_gamma", "logit_adjustment"), (0.0, None)),
    **dict.fromkeys(("layer_decay", "lora_dropout", "label_smoothing_factor"), (0.0, 1.0)),
    "validation_split": (0.0, 0.9),
    "test_split": (0.0, 0.9),
    "num_folds": (2, None),
    "rotation_degrees": (0, 180),
    "max_seconds": (0.05, None),
    "activation_cache_max_gb": (0.001, None),
    "activation_views": (0, 1000),
    "seed": (0, 2**32 - 1),
}


def check(config: Config) -> None:
    """Refuse values that no run could use."""
    values = config.to_flat()
    _check_combinations({name for name, value in values.items() if value is not False and value != ""})
    remedies = [name for name, off in _FOR_RARE_CLASSES.items() if values[name] != off]
    if len(remedies) > 1:
        raise UserError(
            f"--{remedies[0]} and --{remedies[1]} both make up for the frequencies of the classes",
            where=f"--{remedies[1]}",
            fix="keep one of them; --focal_gamma goes with each.",
        )
    for name, (low, high) in (_BOUNDS | {"fold": (1, config.data.num_folds)}).items():
        value = values.get(name, low)
        if not (low <= value and (high is None or value <= high)):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(
                f"{value} is out of bounds; expected {bounds}", where=f"--{name}", fix=f"give --{name} {bounds}."
            )
    if not config.model.model_name_or_path:
        raise UserError(
            "no checkpoint was given",
            where="--model_name_or_path",
            fix="name one, e.g. --model_name_or_path google-bert/bert-base-uncased or a local folder.",
        )


def _check_combinations(given: set[str]) -> None:
    for one, others in _EXCLUDES.items():
        for other in others:
            if {one, other} <= given:
                raise UserError(
                    f"--{one} and --{other} exclude each other", where=f"--{other}", fix="keep one of them."
                )
    for one, other in _NEEDS.items():
        if one in given and other not in given:
            raise UserError(f"--{one} needs --{other}", where=f"--{one}", fix=f"add --{other}, or leave --{one} out.")
