"""YAML and the command line become one checked Config, over the dataclasses of :mod:`hf_finetune.config.options`.

The command line wins over YAML, and YAML over the defaults. Both go through the same parser, so a value is checked in
the same way wherever it stands. ``Config.explicit`` remembers what the user asked for: the architecture-aware defaults
of :mod:`hf_finetune.strategies.defaults` fill in only the rest.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hf_finetune.config.options import (
    CONCERNS,
    CacheConfig,
    DataConfig,
    InputConfig,
    ModelConfig,
    RunConfig,
    StrategyConfig,
)
from hf_finetune.config.yaml_file import read_yaml
from hf_finetune.errors import UserError

# Never written to config.yaml, environment.json, a card or a log.
SECRETS = frozenset({"hub_token"})


@dataclass
class Config:
    """Everything that a run was asked to do.

    ``training`` holds the ``TrainingArguments`` fields that were set; ``explicit`` the names of all keys that were.
    """

    model: ModelConfig
    data: DataConfig
    inputs: InputConfig
    cache: CacheConfig
    strategy: StrategyConfig
    run: RunConfig
    training: dict[str, Any]
    explicit: frozenset[str] = frozenset()

    @property
    def output_dir(self) -> Path:
        """The run folder."""
        return Path(self.training["output_dir"])

    def to_flat(self) -> dict[str, Any]:
        """All keys with a value, as they stand in a YAML file; no secret among them."""
        flat: dict[str, Any] = {}
        for concern in CONCERNS:
            part = getattr(self, concern)
            flat.update({f.name: getattr(part, f.name) for f in fields(part)})
        flat.update(self.training)
        return {key: _plain(value) for key, value in flat.items() if value is not None and key not in SECRETS}


def parse(argv: list[str] | None = None, *, program: str | None = None) -> Config:
    """Read ``--config FILE`` and flags into a checked Config.

    Raises:
        UserError: an unknown key, a value of the wrong type, an unreadable file, or options that exclude each other.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(program)
    files, argv = _take_config_files(argv)
    _refuse_unknown(parser, [a for a in argv if a.startswith("--")], "the command line")
    given: dict[str, Any] = {}
    for file in files:
        given.update(_parse_tokens(parser, _yaml_tokens(parser, file), str(file)))
    given.update(_parse_tokens(parser, argv, "the command line"))
    config = _assemble(parser, given)
    check(config)
    return config


def build_parser(program: str | None = None) -> argparse.ArgumentParser:
    """The parser of a recipe: our flags by concern, then every field of ``TrainingArguments``."""
    from transformers import HfArgumentParser, TrainingArguments

    parser = HfArgumentParser([], prog=program, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the flags below, without the dashes.")
    for kind in (*CONCERNS.values(), TrainingArguments):
        # HfArgumentParser opens a group of this name; the classes themselves stay as they are.
        named = type(
            kind.__name__, (kind,), {"_argument_group_name": _GROUPS.get(kind, "transformers.TrainingArguments")}
        )
        parser._add_dataclass_arguments(named)
    actions = {action.dest: action for action in parser._actions}
    actions["report_to"].nargs = "+"  # the field takes a list too
    actions["hub_private_repo"].nargs, actions["hub_private_repo"].const = "?", True  # as other switches are given
    return parser


_GROUPS: dict[type, str] = {
    ModelConfig: "model",
    DataConfig: "data",
    InputConfig: "inputs",
    CacheConfig: "cache",
    StrategyConfig: "strategy",
    RunConfig: "run",
}


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


def _take_config_files(argv: list[str]) -> tuple[list[Path], list[str]]:
    """Split ``--config FILE`` off the flags."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[], type=Path)
    try:
        known, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(
            "a YAML file is expected", where="--config", fix="give the path of a YAML file after --config."
        ) from error
    return known.config, rest


def _keys(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {
        a.dest: a
        for a in parser._actions
        if a.dest not in ("help", "config") and not a.option_strings[0].startswith("--no_")
    }


def _refuse_unknown(parser: argparse.ArgumentParser, names: list[str], where: str) -> None:
    """Refuse flags that the parser does not know, with the nearest that it does."""
    flags = {flag for action in parser._actions for flag in action.option_strings}
    for name in names:
        flag = name.split("=", 1)[0]
        if flag not in flags:
            known = sorted(f.lstrip("-") for f in flags if f.startswith("--") and "-" not in f.lstrip("-"))
            bare = flag.lstrip("-").replace("-", "_")
            near = difflib.get_close_matches(bare, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"unknown key {flag.lstrip('-')!r}", where=where, fix=f"{hint}--help lists every key.")


def _yaml_tokens(parser: argparse.ArgumentParser, file: Path) -> list[str]:
    """The content of a YAML file as command-line tokens, so that one parser checks both."""
    content = {key.replace("-", "_"): value for key, value in read_yaml(file).items()}
    keys = _keys(parser)
    _refuse_unknown(parser, [f"--{key}" for key in content], str(file))
    if "config" in content:
        raise UserError("a configuration cannot name another", where=str(file), fix="give both files with --config.")
    tokens: list[str] = []
    for key, value in content.items():
        if isinstance(value, list):
            if keys[key].nargs not in ("+", "*"):
                raise UserError(f"{key} takes one value, not a list", where=str(file), fix=f"write '{key}: value'.")
            if not all(isinstance(item, str) for item in value):
                raise UserError(
                    f"{key} holds a list or mapping within its list", where=str(file), fix="list plain values only."
                )
            tokens += [f"--{key}", *value]
        elif isinstance(value, dict):
            tokens += [f"--{key}", json.dumps(value)]
        elif value not in ("", "null", "~"):
            tokens.append(f"--{key}={value}")
    return tokens


def _parse_tokens(parser: argparse.ArgumentParser, tokens: list[str], where: str) -> dict[str, Any]:
    """Only the keys that the tokens name, type-checked."""
    missing = object()
    namespace = argparse.Namespace(**{action.dest: missing for action in parser._actions if action.dest != "help"})
    try:
        namespace, rest = parser.parse_known_args(tokens, namespace)
    except (argparse.ArgumentError, argparse.ArgumentTypeError) as error:
        raise UserError(str(error), where=where, fix="give a value of the type that --help names.") from error
    if rest:
        raise UserError(
            f"{rest[0]!r} belongs to no flag", where=where, fix="put it behind the flag that it is meant for."
        )
    return {key: value for key, value in vars(namespace).items() if value is not missing}


def _assemble(parser: argparse.ArgumentParser, given: dict[str, Any]) -> Config:
    parts = {}
    ours: set[str] = set()
    for name, kind in CONCERNS.items():
        own = {f.name for f in fields(kind)}
        ours |= own
        parts[name] = kind(**{key: given[key] for key in own & given.keys()})
    training = {key: value for key, value in given.items() if key not in ours and key != "config"}
    return Config(**parts, training=training, explicit=frozenset(given))


def without_secrets(argv: list[str]) -> list[str]:
    """A command line without the values of secret flags."""
    clean, hide = [], False
    for word in argv:
        flag, _, value = word.lstrip("-").replace("-", "_").partition("=")
        if hide:
            word = "***"
        elif flag in SECRETS and value:
            word = word.split("=", 1)[0] + "=***"
        hide = word.startswith("--") and flag in SECRETS and not value
        clean.append(word)
    return clean


def _plain(value: Any) -> Any:
    """Enumerations and paths as YAML knows them."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "value"):
        return value.value
    return str(value) if isinstance(value, Path) else value
