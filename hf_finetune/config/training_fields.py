"""The fields of ``TrainingArguments``, read from the source of the installed transformers without importing it.

Importing the class takes seconds, because it imports torch; parsing its file takes 0.1 s.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import field, make_dataclass
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from hf_finetune.config.flags import Option, options_of

# transformers computes these; a test compares them with the installed version.
_LOG_LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")


@cache
def training_fields() -> tuple[Option, ...]:
    """Return every field of ``TrainingArguments``, in its order.

    A version of transformers whose source is laid out in another way is imported instead, which is slow but right.
    """
    spec = find_spec("transformers")
    try:
        return tuple(options_of(_read(Path(str(spec and spec.origin)).with_name("training_args.py"))))
    except (OSError, LookupError, SyntaxError, ValueError, AttributeError):
        from transformers import TrainingArguments

        return tuple(options_of(TrainingArguments))


def _read(path: Path) -> type:
    """Return a dataclass with the fields that the source declares, and none of its methods."""
    tree = _parse(path)
    body = _class(tree, "TrainingArguments")
    if body is None or body.bases:
        raise LookupError("the fields stand elsewhere")
    assigned = _assigned(body)
    names: dict[str, Any] = {
        "field": field,
        "Any": Any,
        "Literal": Literal,
        "trainer_log_levels": dict.fromkeys(_LOG_LEVELS),
    }

    def value_of(expression: Any) -> Any:
        for name in {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)} - names.keys():
            if name in assigned:
                names[name] = value_of(assigned[name])
            else:
                names[name] = getattr(builtins, name, None) or _enumeration(path, tree, name) or Any
        return eval(compile(ast.Expression(expression), str(path), "eval"), {"__builtins__": {}}, names)

    declared = [node for node in body.body if isinstance(node, ast.AnnAssign)]
    fields = [(ast.unparse(node.target), value_of(node.annotation), value_of(node.value)) for node in declared]
    return make_dataclass(body.name, fields)


def _assigned(body: ast.ClassDef) -> dict[str, ast.expr]:
    """Return the expressions that the class gives names to, also in its branches, but not in its methods."""
    return {
        node.targets[0].id: node.value
        for statement in body.body
        if not isinstance(statement, ast.FunctionDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _class(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)


def _enumeration(path: Path, tree: ast.Module, name: str) -> Any:
    """Return the enumeration that an annotation names, from this module or the one it is imported from; else None."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and name in {alias.name for alias in node.names}:
            tree = _parse(path.parent / f"{str(node.module).replace('.', '/')}.py")
    found = _class(tree, name)
    return found and Enum(name, {key: ast.literal_eval(value) for key, value in _assigned(found).items()})
