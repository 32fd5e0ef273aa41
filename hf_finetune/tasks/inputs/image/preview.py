"""Thumbnails of images for pages."""

from __future__ import annotations

import base64
import io
from typing import Any

from hf_finetune.data.images.decode import open_reduced

EDGE = 160  # pixels on the longer side


def preview(row: dict[str, Any]) -> dict[str, str | None]:
    """Return ``image``: a thumbnail of the row's image as a ``data:`` URL."""
    image = open_reduced(row["image"], EDGE)
    image.thumbnail((EDGE, EDGE))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return {"text": None, "image": "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()}


def content_hash(split: Any) -> str | None:
    """Return None: the ids of images are their paths, which identify them."""
    return None
