"""A YAML file of flags, read so that every value keeps its spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_finetune.errors import UserError, first_line


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the values as text, as they are spelled (``01``, ``no``, ``1e-3``): the flags know their types. Mappings are typed.

    Raises:
        UserError: there is no such file, or it does not hold a YAML mapping.
    """
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        spelled = yaml.load(text, Loader=yaml.BaseLoader)  # text only: nothing is constructed
    except FileNotFoundError as error:
        raise UserError(
            "the file does not exist", where=str(file), fix="check the path given with --config."
        ) from error
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise UserError(
            f"the file cannot be read as text ({first_line(error)})",
            where=str(file),
            fix="give a YAML file with --config.",
        ) from error
    except yaml.YAMLError as error:
        raise UserError(
            f"not valid YAML: {error}", where=str(file), fix="correct the line that the message names."
        ) from error
    except RecursionError as error:
        raise UserError(
            "the lists and mappings are nested too deeply", where=str(file), fix="write flat YAML."
        ) from error
    if spelled in (None, "", "null", "~"):
        return {}
    if not isinstance(spelled, dict):
        raise UserError(
            f"expected 'key: value' lines, found a {_kind(spelled)}",
            where=str(file),
            fix="write one 'key: value' a line.",
        )
    return {str(key): _typed(value) if isinstance(value, dict) else value for key, value in spelled.items()}


def _kind(content: Any) -> str:
    return "list" if isinstance(content, list) else "text"


def _typed(value: Any) -> Any:
    """Numbers, booleans and nulls of a nested mapping, whose types no flag knows."""
    import yaml

    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    try:
        return yaml.load(value, Loader=_scalar_loader())
    except yaml.YAMLError:  # text that is not a number: a colon, a bracket or a tag of Python's in quotes
        return value


def _scalar_loader() -> type:
    """PyYAML's safe loader, which also takes ``1e-6`` for a number, as YAML 1.2 does."""
    import re

    import yaml

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader
