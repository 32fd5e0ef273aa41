"""The fields of ``TrainingArguments``, read from the source of the installed transformers without importing it.

Importing the class takes seconds, because it imports torch; parsing its file takes 0.1 s.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from hf_finetune.config.flags import Option, options_of

# transformers computes these from its own modules; a test compares them with the installed version.
_LOG_LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")
_COMPUTED = {"log_level": {"choices": _LOG_LEVELS}, "log_level_replica": {"choices": _LOG_LEVELS}}


@cache
def training_fields() -> tuple[Option, ...]:
    """Return every field of ``TrainingArguments``, in its order.

    A version of transformers whose source is laid out in another way is imported instead, which is slow but right.
    """
    spec = find_spec("transformers")
    try:
        package = Path(str(spec and spec.origin)).parent
        return tuple(_read(package, "training_args", "TrainingArguments").values())
    except (OSError, LookupError, SyntaxError, ValueError):
        from transformers import TrainingArguments

        return tuple(options_of(TrainingArguments))


def _read(package: Path, module: str, name: str) -> dict[str, Option]:
    """The fields of a dataclass by name, those of its base classes first."""
    tree = _parse(package / f"{module}.py")
    body = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if body is None:
        raise LookupError(f"{module}.py has no class {name}")
    options: dict[str, Option] = {}
    for base in body.bases:
        options |= _read(package, _module_of(tree, ast.unparse(base), module), ast.unparse(base))
    names = _Names(package, module, tree)
    constants = {
        target.id: node.value
        for node in ast.walk(body)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for field in body.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            default, metadata = _default_and_metadata(field.value, constants)
            kind = eval(compile(ast.Expression(field.annotation), module, "eval"), {"__builtins__": {}}, names)
            own = field.target.id
            options[own] = Option(own, kind, default, metadata | _COMPUTED.get(own, {}))
    return options


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _default_and_metadata(value: ast.expr | None, constants: dict[str, ast.expr]) -> tuple[Any, dict[str, Any]]:
    """What ``field(default=…, metadata={…})`` or a bare default says, without what only running the code would tell."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == "field"):
        return _literal(value, constants), {}
    words = {word.arg: word.value for word in value.keywords}
    metadata = words.get("metadata")
    pairs = zip(metadata.keys, metadata.values, strict=True) if isinstance(metadata, ast.Dict) else ()
    known = {_literal(key, constants): _literal(said, constants) for key, said in pairs}
    if "default_factory" in words:
        default: Any = [] if ast.unparse(words["default_factory"]) == "list" else None
    else:
        default = _literal(words.get("default"), constants)
    return default, {key: said for key, said in known.items() if said is not None}


def _literal(node: ast.expr | None, constants: dict[str, ast.expr]) -> Any:
    """A constant, also by the name that the class gives it; None for anything that must be computed."""
    if isinstance(node, ast.Name) and node.id in constants:
        node = constants[node.id]
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


def _module_of(tree: ast.Module, name: str, own: str) -> str:
    """The module beside this one that a name is imported from; this one where it is not imported."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and name in {alias.name for alias in node.names}:
            return str(node.module)
    return own


class _Names(dict[str, Any]):
    """The types that annotations name: Python's own, and the enumerations of transformers; ``Any`` for all others."""

    def __init__(self, package: Path, module: str, tree: ast.Module) -> None:
        super().__init__(Any=Any, Literal=Literal)
        self._package, self._module, self._tree = package, module, tree

    def __missing__(self, name: str) -> Any:
        self[name] = getattr(builtins, name, None) or self._enumeration(name) or Any
        return self[name]

    def _enumeration(self, name: str) -> Any:
        path = self._package / f"{_module_of(self._tree, name, self._module).replace('.', '/')}.py"
        if not path.is_file():
            return None
        for node in _parse(path).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return Enum(name, dict(_members(node)))
        return None


def _members(body: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    for node in body.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, ast.literal_eval(node.value)
