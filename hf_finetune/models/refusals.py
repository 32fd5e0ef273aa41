"""Checks of a checkpoint's files whose messages are clearer than those of the libraries."""

from __future__ import annotations

import json
from pathlib import Path

from hf_finetune.errors import UserError, first_line


def refuse_without_weights(name: str) -> None:
    """Raise a ``UserError`` if a local folder has no file of weights."""
    folder = Path(name)
    if folder.is_dir() and not any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir()):
        raise UserError(
            "the folder has no weights (model.safetensors)",
            where=f"--model_name_or_path {name}",
            fix="give a folder that save_pretrained wrote, or copy the weights into it.",
        )


def refuse_broken_settings(name: str) -> None:
    """Raise a ``UserError`` if a local folder has no ``config.json``, or if a JSON file of settings is not an object."""
    folder = Path(name)
    if not folder.is_dir():
        return
    if not (folder / "config.json").exists():
        files = sorted(path.name for path in folder.iterdir())[:8]
        raise UserError(
            f"the folder has no config.json; it contains {', '.join(files) or 'nothing'}",
            where=f"--model_name_or_path {name}",
            fix="give a folder that save_pretrained wrote.",
        )
    for file in [folder / "tokenizer.json", *sorted(folder.glob("*config.json"))]:
        wrong = _fault(file) if file.is_file() else ""
        if wrong:
            raise UserError(wrong, where=str(file), fix="download or copy it again.")


def _fault(file: Path) -> str:
    """Return why a file is not a JSON object; of ``tokenizer.json``, which may be large, only the start is read."""
    if file.name == "tokenizer.json":
        with file.open("rb") as opened:
            start = opened.read(200).lstrip()
        return "" if start.startswith(b"{") else f"expected a JSON object, found {start[:20]!r}"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"the file is not valid JSON ({first_line(error)})"
    return "" if isinstance(content, dict) else f"expected a JSON object, found a {type(content).__name__}"


def refuse_code(error: Exception, name: str) -> None:
    """Raise a ``UserError`` if transformers stopped because the repository contains Python code."""
    if "trust_remote_code" in str(error):
        raise UserError(
            "the checkpoint contains Python code, which does not run without your consent",
            where=f"--model_name_or_path {name}",
            fix="read the code, and add --trust_remote_code if you trust it.",
        ) from error
