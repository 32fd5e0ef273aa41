"""The parser of all flags of a run, and the options of a run that other commands take over."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from functools import cache

from hf_finetune.config.flags import Option, add_options, options_of
from hf_finetune.config.help import HelpFormatter
from hf_finetune.config.options import CONCERNS, TRAINING_WORDS
from hf_finetune.config.training_fields import training_fields


@cache  # parsing does not change it
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
    for name, options in options_by_heading(own).items():
        add_options(parser.add_argument_group(name), options)
    return parser


def options_by_heading(own: type | None) -> dict[str, list[Option]]:
    """Return all options of a run by the heading that ``--help`` gives them, and those of a command."""
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
