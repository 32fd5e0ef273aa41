"""Read the JSON files of a finished run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hf_finetune.errors import UserError


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Return the content of ``evaluation.json``; a ``UserError`` if it does not exist or cannot be read."""
    found: dict[str, Any] = read_json(folder / "evaluation.json", {})
    if not found:
        raise UserError(
            "there is no evaluation.json: this is not a finished run",
            where=str(folder),
            fix="give the --output_dir of a finished run.",
        )
    return found


def read_json(path: Path, empty: Any) -> Any:
    """Return the content of a file, which must have the type of ``empty``; ``empty`` if there is no file."""
    if not path.is_file():
        return empty
    fix = "run the evaluation again."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"the file cannot be read ({error})", where=str(path), fix=fix) from error
    if not isinstance(content, type(empty)):
        kind = "a list" if isinstance(empty, list) else "an object"
        raise UserError(f"the file must contain {kind} in JSON", where=str(path), fix=fix)
    return content
