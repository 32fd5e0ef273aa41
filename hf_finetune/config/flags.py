"""An option of a dataclass becomes a flag of the command line, with the types that ``HfArgumentParser`` gives it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin, get_type_hints

# What argparse takes as it stands; the other keys of a field's metadata are ours.
_OF_ARGPARSE = ("help", "choices", "nargs", "const", "metavar")


@dataclass(frozen=True)
class Option:
    """One flag: its name, type, default, and the metadata of its field."""

    name: str
    type: Any
    default: Any
    metadata: Mapping[str, Any]


def options_of(kind: type) -> list[Option]:
    """Return the fields of a dataclass."""
    types = get_type_hints(kind)
    found = []
    for field in dataclasses.fields(kind):
        default = None if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(Option(field.name, types[field.name], default, field.metadata))
    return found


def add_options(group: argparse._ActionsContainer, options: Iterable[Option], *, bare: bool = False) -> None:
    """Add the flags of options to a parser, or to a group of one.

    ``bare`` switches take no value: else they would take a positional argument of the command for it.
    """
    for option in options:
        flag = f"--{option.name}"
        if bare and option.default is False:
            group.add_argument(flag, action="store_true", help=option.metadata["help"])
            continue
        given = {key: value for key, value in option.metadata.items() if key in _OF_ARGPARSE}
        typed = _typed(option)
        if "choices" not in typed | given:
            typed["metavar"] = placeholder(option) or "true|false"
        group.add_argument(flag, default=option.default, **typed | given)
        if option.default is True:
            no = f"--no_{option.name}"
            group.add_argument(no, dest=option.name, action="store_false", default=True, help=argparse.SUPPRESS)


def with_underscores(argv: list[str]) -> list[str]:
    """Return the words with ``--train-file`` spelled ``--train_file``, as all flags are declared."""
    spelled = []
    for word in argv:
        flag, equals, value = word.partition("=")
        spelled.append(f"--{flag[2:].replace('-', '_')}{equals}{value}" if word.startswith("--") else word)
    return spelled


def placeholder(option: Option) -> str:
    """Return what stands behind a flag in the help; nothing for a switch."""
    if "metavar" in option.metadata:
        return str(option.metadata["metavar"])
    kinds = [kind for kind in (*get_args(option.type), option.type) if kind is not type(None)]
    if bool in kinds:
        return ""
    if int in kinds or float in kinds:
        return "N" if int in kinds else "X"
    return {"file": "FILE", "dir": "FOLDER", "kwargs": "JSON"}.get(option.name.rpartition("_")[2], "NAME")


def _typed(option: Option) -> dict[str, Any]:
    """The arguments of ``add_argument`` that a type stands for."""
    union = get_origin(option.type) not in (None, list, dict, Literal)
    alternatives = get_args(option.type) if union else (option.type,)
    kinds = [kind for kind in alternatives if kind is not type(None)]
    lists = [kind for kind in kinds if get_origin(kind) is list]
    # Of 'None | str | list[str]' HfArgumentParser takes one word; trackers are named one by one all the same.
    several = bool(lists) and (str not in kinds or len(kinds) == len(alternatives) or option.name == "report_to")
    more = {"nargs": "+"} if several else {}
    choices = next(filter(None, map(_choices, kinds)), None)
    if choices:
        return {"type": str, "choices": choices} | more
    if bool in kinds:
        return {"type": _true_or_false, "nargs": "?", "const": True}
    if several:
        return {"type": get_args(lists[0])[0]} | more
    if any(kind is dict or get_origin(kind) is dict for kind in kinds):
        return {"type": _mapping_or_path if str in kinds else _mapping}
    return {"type": kinds[0] if kinds[0] in (int, float, str) else str}


def _choices(kind: Any) -> list[str]:
    """The words that a type allows; none where it allows any."""
    inner = get_args(kind)[0] if get_origin(kind) is list else kind
    if get_origin(inner) is Literal and all(isinstance(word, str) for word in get_args(inner)):
        return list(get_args(inner))
    return [member.value for member in inner] if isinstance(inner, type) and issubclass(inner, Enum) else []


def _true_or_false(word: str) -> bool:
    if word.lower() in ("yes", "true", "t", "y", "1"):
        return True
    if word.lower() in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError(f"true or false is expected, not {word!r}")


def _mapping(word: str) -> dict[str, Any]:
    try:
        value = json.loads(word)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"a mapping in JSON is expected, such as '{{\"key\": 1}}', not {word!r}")
    return value


def _mapping_or_path(word: str) -> str:
    """Check a mapping and keep it as text, which is what ``TrainingArguments`` and config.yaml hold."""
    if word.lstrip().startswith("{"):
        _mapping(word)
    return word
