"""The house as it is drawn: arrows point down, no circles, files and recipes of a readable size."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from hf_finetune.tasks import TASKS

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


# What a row holds and how it is labelled is known in tasks/ only. Flags may offer such names, and the demo names its two tasks.
OUTPUTS = {"SingleLabel", "MultiLabel", "Regression"}
KINDS = {
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "text",
    "text_pair",
    "image",
    *TASKS,
}


def names_of_kinds(tree: ast.AST) -> int:
    """How often outputs are named, and anything is compared with the name of an input, an output or a task."""
    found = 0
    for node in ast.walk(tree):
        names = {getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "name", None)}
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        parts = [part for side in sides for part in getattr(side, "elts", [side])]
        found += bool(names & OUTPUTS or KINDS & {part.value for part in parts if is_text(part)})
    return found


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_only_tasks_know_inputs_outputs_and_tasks_by_name():
    counts = {str(path): names_of_kinds(tree) for path, tree in FILES.items() if path.parts[0] != "tasks"}
    assert {path: count for path, count in counts.items() if count} == {}


def imported(name: str, tree: ast.Module, modules: set[str]) -> set[str]:
    """The modules of the package that a module imports when it is imported itself."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_finetune"):
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & modules) or {str(node.module)}
    return (found & modules) - {name}


def test_no_two_modules_need_each_other():
    names = {path: ".".join(("hf_finetune", *path.with_suffix("").parts)).removesuffix(".__init__") for path in FILES}
    needs = {names[path]: imported(names[path], tree, set(names.values())) for path, tree in FILES.items()}
    while leaves := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in leaves}
    assert needs == {}


def test_folders_have_a_readable_size():
    sizes = Counter(str(path.parent) for path in FILES)
    assert {folder: count for folder, count in sizes.items() if count > 14} == {"cli": 15}
