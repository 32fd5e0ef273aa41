"""The parser of all flags of a run, its ``--help``, and the options of a run that other commands take over."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from functools import cache
from typing import get_args, get_origin

from hf_finetune.config.flags import Option, add_options, options_of, placeholder
from hf_finetune.config.options import CONCERNS, TRAINING_WORDS
from hf_finetune.config.training_fields import training_fields


class HelpFormatter(argparse.HelpFormatter):
    """argparse's, with the default of each flag where there is one that the text does not name."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        said = action.help or ""
        named = action.default in (None, False, "", argparse.SUPPRESS, []) or "default" in said
        return said if named or not action.option_strings else f"{said.rstrip('.')} (default: %(default)s)."


@cache  # parsing does not change it
def build_parser(program: str | None = None, own: type | None = None) -> argparse.ArgumentParser:
    """Return the parser of a recipe: our flags by concern, every field of ``TrainingArguments``, and a command's own."""
    parser = argparse.ArgumentParser(
        prog=program, exit_on_error=False, allow_abbrev=False, add_help=False, formatter_class=HelpFormatter
    )
    absent = argparse.SUPPRESS
    words = "Show the common flags, or all of them."
    parser.add_argument("-h", "--help", metavar="all", nargs="?", default=absent, help=words)
    words = "YAML file with any of the flags below, without the dashes."
    parser.add_argument("--config", metavar="FILE", action="append", default=absent, help=words)
    for name, options in options_by_heading(own).items():
        add_options(parser.add_argument_group(name), options)
    return parser


def options_by_heading(own: type | None) -> dict[str, list[Option]]:
    """Return all options of a run by the heading that ``--help`` gives them, and those of a command."""
    groups = {name: options_of(kind) for name, kind in CONCERNS.items()} | {"training": _training_options()}
    return groups if own is None else groups | {"this command": options_of(own)}


def find_options(*names: str, default: str | None = None) -> list[Option]:
    """Return options of a run by name, for a command that takes them over; ``default`` says what it does without them."""
    known = {option.name: option for kind in CONCERNS.values() for option in options_of(kind)}
    if not known.keys() >= set(names):
        known |= {option.name: option for option in _training_options()}
    found = [known[name] for name in names]
    if default is None:
        return found
    texts = [re.sub(r" \(default: .*?\)", "", option.metadata["help"]).rstrip(".") for option in found]
    return [_in_words(option, help=f"{text} (default: {default}).") for option, text in zip(found, texts, strict=True)]


def _training_options() -> list[Option]:
    """Return the fields of ``TrainingArguments``, in our own words where a run of this package uses one differently."""
    return [_in_words(option, **TRAINING_WORDS.get(option.name, {})) for option in training_fields()]


def _in_words(option: Option, **words: str) -> Option:
    return replace(option, metadata={**option.metadata, **words})


def asked_for_help(argv: list[str]) -> str | None:
    """Return ``common`` or ``all`` where the words ask for help; None where they do not."""
    for number, word in enumerate(argv):
        if word in ("-h", "--help", "--help=all"):
            return "all" if "all" in (word.partition("=")[2], *argv[number + 1 : number + 2]) else "common"
    return None


def common_help(program: str, own: type | None, reads: str | None) -> str:
    """Return one screen: the common flags by group, each with the first sentence of its help and its default.

    ``reads`` is the input of the task, whose flags are shown; None shows those of every input.
    """
    lines = [f"usage: {program} [--config FILE] [flags]  (--help all: every flag)"]
    for heading, options in options_by_heading(own).items():
        common = [option for option in options if option.metadata.get("common") in ("all", reads or "all")]
        lines += [f"{heading}:", *map(_line, common)] if common else []
    return "\n".join(lines)


def _line(option: Option) -> str:
    sentence = option.metadata["help"].split(". ")[0].rstrip(".")
    plain = option.default not in (None, False, "none") and "default" not in sentence
    said = f"{sentence} (default: {option.default})" if plain else sentence
    several = any(get_origin(kind) is list for kind in (option.type, *get_args(option.type)))
    flag = f"  --{option.name} {placeholder(option)}{' …' if several else ''}".rstrip()
    return f"{flag:<33} {said}"
