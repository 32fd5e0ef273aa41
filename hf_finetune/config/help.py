"""What ``--help`` shows: the flags that most people need on one screen, or all of them with ``--help all``."""

from __future__ import annotations

import argparse
from typing import get_args, get_origin

from hf_finetune.config.flags import Option, placeholder

_INDENT = 33


def asked_for_help(argv: list[str]) -> str | None:
    """Return ``common`` or ``all`` where the words ask for help; None where they do not."""
    for number, word in enumerate(argv):
        if word in ("-h", "--help", "--help=all"):
            return "all" if "all" in (word.partition("=")[2], *argv[number + 1 : number + 2]) else "common"
    return None


def common_help(program: str, groups: dict[str, list[Option]], reads: str | None) -> str:
    """Return one screen: the common flags by group, each with the first sentence of its help and its default.

    Args:
        program: what is called, with its arguments.
        groups: options by heading.
        reads: the input of the task, whose flags are shown; None shows those of every input.
    """
    lines = [f"usage: {program} [--config FILE] [flags]  (--help all: every flag)"]
    for heading, options in groups.items():
        common = [option for option in options if option.metadata.get("common") in ("all", reads or "all")]
        lines += [f"{heading}:", *map(_line, common)] if common else []
    return "\n".join(lines)


class HelpFormatter(argparse.HelpFormatter):
    """argparse's, with the default of each flag where there is one that the text does not name."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        said = action.help or ""
        named = (
            action.default in (None, False, "", argparse.SUPPRESS, []) or "default" in said or not action.option_strings
        )
        return said if named else f"{said.rstrip('.')} (default: %(default)s)."


def _line(option: Option) -> str:
    sentence = option.metadata["help"].split(". ")[0].rstrip(".")
    plain = option.default not in (None, False, "none") and "default" not in sentence
    said = f"{sentence} (default: {option.default})" if plain else sentence
    many = (
        " …"
        if get_origin(option.type) is list or any(get_origin(kind) is list for kind in get_args(option.type))
        else ""
    )
    flag = f"  --{option.name} {placeholder(option)}{many}".rstrip()
    return f"{flag:<{_INDENT}} {said}"
