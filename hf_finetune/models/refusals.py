"""What is refused of a checkpoint's files before, or in place of, what the libraries would say of them."""

from __future__ import annotations

import json
from pathlib import Path

from hf_finetune.errors import UserError, first_line


def refuse_without_weights(name: str) -> None:
    """Refuse a local folder without a file of weights.

    Raises:
        UserError: there is none.
    """
    folder = Path(name)
    if folder.is_dir() and not any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir()):
        raise UserError(
            "the folder holds no weights (model.safetensors)",
            where=f"--model_name_or_path {name}",
            fix="name a folder that save_pretrained wrote, or copy the weights into it.",
        )


def refuse_broken_settings(folder: Path) -> None:
    """Refuse files that are not what ``save_pretrained`` writes: the libraries fail on them in ways of their own.

    Raises:
        UserError: one is no JSON object.
    """
    tokenizer = folder / "tokenizer.json"
    start = _start(tokenizer) if tokenizer.is_file() else b"{"
    if not start.startswith(b"{"):
        raise UserError(
            f"expected a JSON object, found {start[:20]!r}", where=str(tokenizer), fix="copy it anew from its source."
        )
    for file in sorted(folder.glob("*config.json")) if folder.is_dir() else []:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"the file is no JSON ({first_line(error)})", where=str(file), fix="copy it anew from its source."
            ) from error
        if not isinstance(content, dict):
            raise UserError(
                f"expected a JSON object, found a {type(content).__name__}",
                where=str(file),
                fix="copy it anew from its source.",
            )


def _start(file: Path) -> bytes:
    """The first bytes of a file that is too large to be parsed twice, behind its spaces."""
    with file.open("rb") as content:
        return content.read(200).lstrip()


def refuse_code(error: Exception, name: str) -> None:
    """Say it in our words where transformers stopped at Python code that a repository carries.

    Raises:
        UserError: it did.
    """
    if "trust_remote_code" in str(error):
        raise UserError(
            "the checkpoint carries Python code of its own, which is not run unasked",
            where=f"--model_name_or_path {name}",
            fix="read the code, and add --trust_remote_code if you trust it.",
        ) from error
