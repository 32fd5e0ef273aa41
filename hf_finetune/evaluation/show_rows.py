"""A row as a page can show it: the beginning of its text, or its image made small."""

from __future__ import annotations

import base64
import io
from typing import Any

MOST_CHARACTERS = 400
EDGE = 160  # pixels of the longer side


def shown(row: dict[str, Any]) -> dict[str, str | None]:
    """``text`` and ``image`` (a ``data:`` address) of a row; one of them is None."""
    if "image" in row:
        return {"text": None, "image": _thumbnail(row["image"])}
    return {"text": " / ".join(_short(row[name]) for name in ("text", "text_pair") if name in row), "image": None}


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _thumbnail(cell: Any) -> str:
    from hf_finetune.data.images.decode import open_reduced

    image = open_reduced(cell, EDGE)
    image.thumbnail((EDGE, EDGE))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
