"""Excerpts of texts for pages, and a hash of the texts of a split."""

from __future__ import annotations

import hashlib
from typing import Any

from hf_finetune.tasks.inputs.text.row_input import columns_of

MOST_CHARACTERS = 400


def preview(row: dict[str, Any]) -> dict[str, str | None]:
    """Return ``text``, the beginning of the row's text or texts."""
    return {"text": " / ".join(_short(row[name]) for name in columns_of(row)), "image": None}


def content_hash(split: Any) -> str | None:
    """Return a hash of the texts of a split, without the ids of its rows."""
    digest = hashlib.sha256()
    for name in columns_of(split):
        for text in split[name][:]:
            digest.update(f"{len(text)} {text}".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
