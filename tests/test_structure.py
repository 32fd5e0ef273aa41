"""The house as it is drawn: arrows point down, no circles, files and recipes of a readable size."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_finetune"
LEVELS = {
    "errors": 0, "console": 0, "files": 0, "memory": 0, "config": 1, "packaged": 7,
    "data": 2, "models": 2,
    "tasks": 3, "strategies": 3, "activations": 3, "evaluation": 4, "report": 5, "training": 5, "checks": 6, "publish": 6,
    "demo": 7, "cli": 8,
}  # fmt: skip


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_what_stands_above_it(path):
    own = room(path)
    if own in ("__init__", "__main__"):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_finetune."):
            other = node.module.split(".")[1]
            assert LEVELS[other] <= LEVELS[own], f"{own} imports {node.module}"
            if other != own and LEVELS[other] == LEVELS[own]:
                assert (own, other) in {("models", "data"), ("tasks", "strategies"), ("demo", "packaged")} or LEVELS[
                    own
                ] < 2


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_have_a_readable_size_and_say_what_they_are_for(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 430
    assert ast.get_docstring(ast.parse(text)), "the first line says why the file exists"


def test_recipes_are_what_a_user_copies():
    for path in (PACKAGE.parent / "recipes").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 100
