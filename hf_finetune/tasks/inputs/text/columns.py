"""The standard columns of texts."""

from __future__ import annotations

from typing import Any

COLUMNS = ("text", "text_pair")


def columns_of(split: Any) -> list[str]:
    """Return the text columns of a split or row: ``text``, or ``text`` and ``text_pair``."""
    names = getattr(split, "column_names", split)
    return [name for name in COLUMNS if name in names]
