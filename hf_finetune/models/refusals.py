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


def refuse_broken_settings(folder: Path) -> None:
    """Raise a ``UserError`` if ``tokenizer.json`` or a configuration file is not a JSON object."""
    tokenizer = folder / "tokenizer.json"
    start = _start(tokenizer) if tokenizer.is_file() else b"{"
    if not start.startswith(b"{"):
        raise UserError(
            f"expected a JSON object, found {start[:20]!r}", where=str(tokenizer), fix="download or copy it again."
        )
    for file in sorted(folder.glob("*config.json")) if folder.is_dir() else []:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"the file is not valid JSON ({first_line(error)})", where=str(file), fix="download or copy it again."
            ) from error
        if not isinstance(content, dict):
            raise UserError(
                f"expected a JSON object, found a {type(content).__name__}",
                where=str(file),
                fix="download or copy it again.",
            )


def _start(file: Path) -> bytes:
    """Return the first bytes of a file without leading spaces; the whole file may be large."""
    with file.open("rb") as content:
        return content.read(200).lstrip()


def refuse_code(error: Exception, name: str) -> None:
    """Raise a ``UserError`` if transformers stopped because the repository contains Python code."""
    if "trust_remote_code" in str(error):
        raise UserError(
            "the checkpoint contains Python code, which does not run without your consent",
            where=f"--model_name_or_path {name}",
            fix="read the code, and add --trust_remote_code if you trust it.",
        ) from error
