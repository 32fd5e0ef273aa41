"""YAML and the command line become one checked Config, over the dataclasses of :mod:`hf_finetune.config.options`.

The command line wins over YAML, and YAML over the defaults. Both go through the same parser, so a value is checked in
the same way wherever it stands. ``Config.explicit`` remembers what the user asked for: the architecture-aware defaults
of :mod:`hf_finetune.strategies.defaults` fill in only the rest.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hf_finetune.config.checks import check
from hf_finetune.config.flags import Option, add_options, options_of, with_underscores
from hf_finetune.config.help import HelpFormatter, asked_for_help, common_help
from hf_finetune.config.options import (
    CONCERNS,
    TRAINING_WORDS,
    CacheConfig,
    DataConfig,
    InputConfig,
    ModelConfig,
    RunConfig,
    StrategyConfig,
)
from hf_finetune.config.training_fields import training_fields
from hf_finetune.config.yaml_file import read_yaml
from hf_finetune.errors import UserError

# Never written to config.yaml, environment.json, a card or a log.
SECRETS = frozenset({"hub_token"})


@dataclass(frozen=True)
class Config:
    """Everything that a run was asked to do. It is never written to: ``dataclasses.replace`` makes another.

    ``training`` holds the ``TrainingArguments`` fields that were set; ``explicit`` the names of all keys that were.
    """

    model: ModelConfig
    data: DataConfig
    inputs: InputConfig
    cache: CacheConfig
    strategy: StrategyConfig
    run: RunConfig
    training: Mapping[str, Any]
    explicit: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Keep a copy of ``training`` that cannot be written to."""
        object.__setattr__(self, "training", MappingProxyType(dict(self.training)))

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


def parse(
    argv: list[str] | None = None, *, program: str = "", own: type | None = None, reads: str | None = None
) -> Config:
    """Read ``--config FILE`` and flags into a checked Config; print the help instead where the flags ask for it.

    Args:
        argv: the flags; those of this process without it.
        program: what ``--help`` calls the program (default: its file).
        own: a dataclass of further flags that ``--help`` shows. They are not parsed here.
        reads: the input of the task, whose flags ``--help`` shows.

    Raises:
        UserError: an unknown key, a value of the wrong type, an unreadable file, or options that exclude each other.
        SystemExit: the help was printed.
    """
    argv = with_underscores(sys.argv[1:] if argv is None else argv)
    program = program or Path(sys.argv[0]).name
    if asked := asked_for_help(argv):
        common = asked == "common"
        print(common_help(program, _groups(own), reads) if common else build_parser(program, own).format_help())
        raise SystemExit(0)
    parser = build_parser(program)
    files, argv = _take_config_files(argv)
    _refuse_unknown(parser, [a for a in argv if a.startswith("--")], "the command line")
    given: dict[str, Any] = {}
    for file in files:
        given.update(_parse_tokens(parser, _yaml_tokens(parser, file), str(file)))
    given.update(_parse_tokens(parser, argv, "the command line"))
    config = _assemble(given)
    check(config)
    return config


def build_parser(program: str | None = None, own: type | None = None) -> argparse.ArgumentParser:
    """Return the parser of a recipe: our flags by concern, then every field of ``TrainingArguments``.

    Args:
        program: what the usage line calls the program.
        own: a dataclass of further flags, which a command has of its own.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        exit_on_error=False,
        allow_abbrev=False,
        add_help=False,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "-h",
        "--help",
        metavar="all",
        nargs="?",
        default=argparse.SUPPRESS,
        help="Show the common flags, or all of them.",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the flags below, without the dashes.")
    for name, options in _groups(own).items():
        add_options(parser.add_argument_group(name), options)
    return parser


def _groups(own: type | None) -> dict[str, list[Option]]:
    """All options by heading."""
    groups = {name: options_of(kind) for name, kind in CONCERNS.items()}
    groups["training"] = training_options()
    return groups if own is None else groups | {"this command": options_of(own)}


def training_options() -> list[Option]:
    """Return the fields of ``TrainingArguments``, in our own words where a run of this package uses one differently."""
    return [
        replace(option, metadata={**option.metadata, **TRAINING_WORDS.get(option.name, {})})
        for option in training_fields()
    ]


def find_options(*names: str, default: str | None = None) -> list[Option]:
    """Return options of a run by name, for a command that takes them over.

    Args:
        names: of the options.
        default: what the command does without them, where that is not what a run does.
    """
    ours = {option.name: option for kind in CONCERNS.values() for option in options_of(kind)}
    known = ours if ours.keys() >= set(names) else ours | {option.name: option for option in training_options()}
    return [known[name] if default is None else _with_default(known[name], default) for name in names]


def _with_default(option: Option, default: str) -> Option:
    text = re.sub(r" \(default: .*?\)", "", option.metadata["help"]).rstrip(".")
    return replace(option, metadata={**option.metadata, "help": f"{text} (default: {default})."})


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
            near = difflib.get_close_matches(flag.lstrip("-"), sorted(known.lstrip("-") for known in flags), n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"unknown key {flag.lstrip('-')!r}", where=where, fix=f"{hint}--help all lists every key.")


def _yaml_tokens(parser: argparse.ArgumentParser, file: Path) -> list[str]:
    """The content of a YAML file as command-line tokens, so that one parser checks both."""
    content = {key.replace("-", "_"): value for key, value in read_yaml(file).items()}
    keys = _keys(parser)
    _refuse_unknown(parser, [f"--{key}" for key in content], str(file))
    if "help" in content:
        raise UserError("help is not a setting", where=str(file), fix="give --help on the command line.")
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


def _assemble(given: dict[str, Any]) -> Config:
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
    """Lists and paths as YAML knows them."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
