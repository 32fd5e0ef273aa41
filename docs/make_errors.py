"""Write ``docs/errors.md``: every message that the package has for a user's mistake, read off its source.

    python docs/make_errors.py

Nothing is run to find them: the sentences of every ``UserError(…)`` are taken from the syntax tree. What is filled in when
the message is printed stands in angle brackets, ``⟨name⟩``; what depends on the case stands as ``(one / other)``.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
INTRODUCTION = """\
# What does this error message mean?

A mistake that you can mend ends a command with status 2 and two lines on standard error, without a traceback:

```
error: WHERE: WHAT
fix: HOW
```

Almost all of them come before training, and none after a change to a file of yours. They stand below by the part of the
package that they come from: ⟨name⟩ is filled in from your input (⟨error⟩ is what another library said of it), and of
(one / other) one is said. Whatever ends in a traceback instead is a defect of this package.

This page is made from the code by `make docs`.
"""


@dataclass(frozen=True, order=True)
class Message:
    """One ``UserError(…)`` of the source; every part as the ways in which it can be said.

    Args:
        room: the folder of the package; files at its top are the settings and the start.
        file: path below the repository.
        what, where, fix: the sentences; more than one where the code chooses between them.
        line: where the call stands, for whoever mends it.
    """

    room: str
    file: str
    what: tuple[str, ...]
    where: tuple[str, ...]
    fix: tuple[str, ...]
    line: int = 0


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(collect()), encoding="utf-8")


def collect(root: Path = ROOT) -> list[Message]:
    """Every message of ``hf_finetune`` and ``recipes`` below a folder, sorted by file and sentence."""
    files = [*(root / "hf_finetune").rglob("*.py"), *(root / "recipes").glob("*.py")]
    return sorted(message for file in files for message in _messages(file, root))


def page(messages: list[Message]) -> str:
    """The page as Markdown: one table a file, under a heading a room."""
    lines = [INTRODUCTION]
    room = file = ""
    for message in messages:
        if message.room != room:
            lines.append(f"\n## {message.room}\n")
            room = message.room
        if message.file != file:
            lines += [f"\n### `{message.file}`\n", "| error | where | how to mend it |", "|---|---|---|"]
            file = message.file
        cells = (" *or* ".join(_cell(way) for way in part) for part in (message.what, message.where, message.fix))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(_without_repeats(lines)).replace("\n\n\n", "\n\n") + "\n"


def _without_repeats(lines: list[str]) -> list[str]:
    """The same sentence may be said from two places of one file."""
    return [line for i, line in enumerate(lines) if i == 0 or line != lines[i - 1]]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*") or "–"


def _messages(file: Path, root: Path) -> list[Message]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = []
    for node, scope in _calls(tree, {}):
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        what = given.get("what", node.args[0] if node.args else ast.Constant(""))
        parts = [_ways(part, scope) for part in (what, given.get("where", ast.Constant("")), given["fix"])]
        path = file.relative_to(root)
        room = path.parts[1] if len(path.parts) > 2 else "settings and start"
        found.append(Message(room, path.as_posix(), *parts, node.lineno))
    return found


def _calls(node: ast.AST, scope: dict[str, ast.expr]) -> list[tuple[ast.Call, dict[str, ast.expr]]]:
    """Calls of UserError below a node, each with the sentences that its function gives a name once."""
    if isinstance(node, ast.FunctionDef):
        scope = scope | _sentences(node)
    own = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "UserError"
    found = [(node, scope)] if own else []
    for child in ast.iter_child_nodes(node):
        found += _calls(child, scope)
    return found


def _sentences(function: ast.FunctionDef) -> dict[str, ast.expr]:
    """Local names that are given one literal sentence, and never another."""
    named: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name):
                named.setdefault(target.id, []).append(node.value)
    return {name: values[0] for name, values in named.items() if len(values) == 1 and _is_sentence(values[0])}


def _is_sentence(node: ast.expr) -> bool:
    if isinstance(node, ast.IfExp):
        return _is_sentence(node.body) and _is_sentence(node.orelse)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _ways(node: ast.expr, scope: dict[str, ast.expr]) -> tuple[str, ...]:
    """All that an argument can say, each as one sentence."""
    if isinstance(node, ast.Name) and node.id in scope:
        return _ways(scope[node.id], scope)
    if isinstance(node, ast.IfExp):
        return _ways(node.body, scope) + _ways(node.orelse, scope)
    return (_text(node, scope),)


def _text(node: ast.expr, scope: dict[str, ast.expr]) -> str:
    """A sentence with its placeholders."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value, scope) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and not isinstance(node.right, ast.Constant):
        return _text(node.left, scope) + _text(node.right, scope)
    if isinstance(node, ast.FormattedValue):
        inner = _text(node.value, scope)
        return repr(inner) if node.conversion == ord("r") and inner.startswith("⟨") else inner
    if isinstance(node, ast.Name) and node.id in scope:
        return _choice(_ways(node, scope))
    if isinstance(node, ast.IfExp):
        return _choice(_ways(node, scope))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "strip":
        return _text(node.func.value, scope)
    return f"⟨{_name(node)}⟩"


def _choice(ways: tuple[str, ...]) -> str:
    said = [way for way in ways if way]
    inside = f"({' / '.join(way.strip() for way in said)})"
    return " " * said[0].startswith(" ") + inside + " " * said[-1].endswith(" ")


def _name(node: ast.expr) -> str:
    """A short name for what an expression gives."""
    if isinstance(node, ast.Name):
        return node.id.strip("_").lower().replace("_", " ")
    if isinstance(node, ast.Attribute):
        return _name(node.value) if node.attr == "__name__" else node.attr.replace("_", " ")
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, (ast.Subscript, ast.Starred)):
        return _name(node.value)
    if isinstance(node, ast.BinOp):
        return _name(node.left)
    if isinstance(node, ast.BoolOp):
        return _name(node.values[0])
    if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp)):
        return _name(node.elt)
    if isinstance(node, ast.Call):
        return _name_of_call(node)
    return ast.unparse(node)


def _name_of_call(node: ast.Call) -> str:
    """What a call is made on or of: ``', '.join(names)`` and ``str(names)`` give names."""
    if isinstance(node.func, ast.Attribute):
        on_text = isinstance(node.func.value, ast.Constant)
        return _name(node.args[-1] if on_text and node.args else node.func.value)
    function = ast.unparse(node.func)
    if function == "len":
        return f"number of {_name(node.args[0])}"
    if function in ("map", "getattr"):
        return _name(node.args[1])
    if function in ("str", "repr", "sorted", "list", "set", "next", "iter", "type", "first_line"):
        return _name(node.args[0])
    return _name(node.func)


if __name__ == "__main__":
    main()
