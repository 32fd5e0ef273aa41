"""YAML and the command line become one checked Config, over the dataclasses of :mod:`hf_finetune.config.options`.

The command line wins over YAML, and YAML over the defaults. Both go through the same parser, so a value is checked in
the same way wherever it stands. ``Config.explicit`` remembers what the user asked for: the architecture-aware defaults
of :mod:`hf_finetune.strategies.defaults` fill in only the rest.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_finetune.config.checks import check
from hf_finetune.config.flags import with_underscores
from hf_finetune.config.options import CONCERNS, Config
from hf_finetune.config.parser import asked_for_help, build_parser, common_help
from hf_finetune.errors import UserError, did_you_mean, first_line


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
        print(common_help(program, own, reads) if common else build_parser(program, own).format_help())
        raise SystemExit(0)
    parser = build_parser(program)
    _refuse_unknown(parser, [word for word in argv if word.startswith("--")], "the command line")
    flags = _parse_tokens(parser, argv, "the command line")
    given: dict[str, Any] = {}
    for file in flags.pop("config", []):
        given.update(_parse_tokens(parser, _yaml_tokens(parser, file), file))
    given.update(flags)
    config = _assemble(given)
    check(config)
    return config


def _refuse_unknown(parser: argparse.ArgumentParser, names: list[str], where: str) -> None:
    """Refuse flags that the parser does not know, with the nearest that it does."""
    flags = parser._option_string_actions
    for name in names:
        flag = name.split("=", 1)[0]
        if flag not in flags:
            hint = did_you_mean(flag.lstrip("-"), sorted(known.lstrip("-") for known in flags))
            raise UserError(f"unknown key {flag.lstrip('-')!r}", where=where, fix=f"{hint}--help all lists every key.")


def _parse_tokens(parser: argparse.ArgumentParser, tokens: list[str], where: str) -> dict[str, Any]:
    """Only the keys that the tokens name, type-checked."""
    missing = object()
    namespace = argparse.Namespace(**{action.dest: missing for action in parser._actions if action.dest != "config"})
    try:
        namespace, rest = parser.parse_known_args(tokens, namespace)
    except (argparse.ArgumentError, argparse.ArgumentTypeError) as error:
        raise UserError(str(error), where=where, fix="give a value of the type that --help names.") from error
    if rest:
        raise UserError(
            f"{rest[0]!r} belongs to no flag", where=where, fix="put it behind the flag that it is meant for."
        )
    return {key: value for key, value in vars(namespace).items() if value is not missing}


def _yaml_tokens(parser: argparse.ArgumentParser, file: str) -> list[str]:
    """The content of a YAML file as command-line tokens, so that one parser checks both."""
    content = {str(key).replace("-", "_"): value for key, value in _read_yaml(file).items()}
    _refuse_unknown(parser, [f"--{key}" for key in content], file)
    if "help" in content:
        raise UserError("help is not a setting", where=file, fix="give --help on the command line.")
    if "config" in content:
        raise UserError("a configuration cannot name another", where=file, fix="give both files with --config.")
    tokens: list[str] = []
    for key, value in content.items():
        if isinstance(value, list):
            if parser._option_string_actions[f"--{key}"].nargs != "+":
                raise UserError(f"{key} takes one value, not a list", where=file, fix=f"write '{key}: value'.")
            if not all(isinstance(item, str) for item in value):
                raise UserError(f"{key} holds a list or mapping within its list", where=file, fix="list plain values.")
            tokens += [f"--{key}", *value]
        elif isinstance(value, dict):
            tokens += [f"--{key}", json.dumps(_typed(value), default=str)]
        elif value not in ("", "null", "~"):
            tokens.append(f"--{key}={value}")
    return tokens


def _read_yaml(file: str) -> dict[Any, Any]:
    """Return the values as text, as they are spelled (``01``, ``no``, ``1e-3``): the flags know their types."""
    import yaml

    try:
        content = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # text only
    except (OSError, UnicodeDecodeError) as error:
        missing = isinstance(error, FileNotFoundError)
        what = "the file does not exist" if missing else f"the file cannot be read as text ({first_line(error)})"
        raise UserError(what, where=file, fix="give a YAML file with --config.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"not valid YAML: {error}", where=file, fix="correct the line that the message names."
        ) from error
    if content in (None, "", "null", "~"):
        return {}
    if not isinstance(content, dict):
        kind = "list" if isinstance(content, list) else "text"
        raise UserError(
            f"expected 'key: value' lines, found a {kind}", where=file, fix="write one 'key: value' a line."
        )
    return content


def _typed(value: Any) -> Any:
    """Numbers, booleans and nulls of a nested mapping, whose types no flag knows."""
    import yaml

    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value):
        return float(value)  # a number in YAML 1.2, text to PyYAML
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:  # text that is not a number: a colon, a bracket or a tag of Python's in quotes
        return value


def _assemble(given: dict[str, Any]) -> Config:
    parts = {}
    training = dict(given)
    for name, kind in CONCERNS.items():
        parts[name] = kind(**{f.name: training.pop(f.name) for f in fields(kind) if f.name in given})
    return Config(**parts, training=training, explicit=frozenset(given))
