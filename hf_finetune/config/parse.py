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
from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_finetune.config.checks import check
from hf_finetune.config.configuration import Config
from hf_finetune.config.flags import with_underscores
from hf_finetune.config.help import asked_for_help, common_help
from hf_finetune.config.options import CONCERNS
from hf_finetune.config.parser import build_parser, options_by_heading
from hf_finetune.config.yaml_file import read_yaml
from hf_finetune.errors import UserError


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
        print(
            common_help(program, options_by_heading(own), reads) if common else build_parser(program, own).format_help()
        )
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
