"""Atomic writing of text and JSON files, the cache folder, and names that are safe to publish."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_finetune.errors import UserError


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write UTF-8 atomically: to a temporary file that is then renamed. ``errors`` is as in ``str.encode``."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8", errors=errors)
    partial.replace(path)


@contextmanager
def writing(what: str, where: str, fix: str) -> Iterator[None]:
    """Turn an ``OSError`` into a ``UserError``: ``what`` cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"the {what} cannot be written ({error})", where=where, fix=fix) from error


def cache_dir() -> Path:
    """Return ``$HF_FINETUNE_CACHE``, ``$XDG_CACHE_HOME/hf-finetune`` or ``~/.cache/hf-finetune``."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hf-finetune")
    return Path(os.environ.get("HF_FINETUNE_CACHE") or default).expanduser().absolute()


def public_name(name: str) -> str:
    """Return a Hub id unchanged, and only the last part of a local path, so that no user's folders are published."""
    return name if is_on_hub(name) else Path(name.rstrip("/")).name


def is_on_hub(name: str) -> bool:
    """Return whether a name can only be a Hub id: it looks like one, and no such file exists."""
    return bool(re.fullmatch(r"[^/.~\\][^/\\]*(/[^/\\]*)?", name)) and not Path(name).exists()
