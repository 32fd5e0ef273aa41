"""The house as it is drawn: arrows point down, no circles, files and recipes of a readable size."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "hf_finetune"
LEVELS = {
    "errors": 0, "console": 0, "files": 0, "memory": 0, "config": 1, "packaged": 7,
    "data": 2, "models": 2,
    "tasks": 3, "strategies": 3, "activations": 3, "evaluation": 4, "report": 5, "training": 5, "checks": 6, "publish": 6,
    "demo": 7, "cli": 8,
}  # fmt: skip


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = {
    path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))
}


def test_nothing_imports_what_stands_above_it():
    """Rooms of one level may know each other below 2, and these pairs."""
    beside = {("models", "data"), ("tasks", "strategies"), ("demo", "packaged")}
    wrong = []
    for path, tree in FILES.items():
        own = room(PACKAGE / path)
        if own in ("__init__", "__main__"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_finetune."):
                other = node.module.split(".")[1]
                same = other != own and LEVELS[other] == LEVELS[own] >= 2 and (own, other) not in beside
                if LEVELS[other] > LEVELS[own] or same:
                    wrong.append(f"{path} imports {node.module}")
    assert wrong == []


def test_files_have_a_readable_size_and_say_what_they_are_for():
    lines = {path: len((PACKAGE / path).read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: count for path, count in lines.items() if count > 430} == {}
    assert [path for path, tree in FILES.items() if not ast.get_docstring(tree)] == [], "say why the file exists"


def test_recipes_are_what_a_user_copies():
    for path in (PACKAGE.parent / "recipes").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 100


OUTPUTS = {"SingleLabel", "MultiLabel", "Regression"}
KINDS = {"single_label_classification", "multi_label_classification", "regression"}


def test_only_outputs_know_which_kind_of_label_there_is():
    """Outside ``tasks`` nothing names an output, or compares anything with the name of one; flags may offer the names."""
    wrong = []
    for path, tree in FILES.items():
        if room(PACKAGE / path) == "tasks":
            continue
        for node in ast.walk(tree):
            names = {getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "name", None)}
            compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            if names & OUTPUTS or KINDS & {getattr(each, "value", None) for each in compared}:
                wrong.append(f"{path}:{node.lineno}")
    assert wrong == []
