"""How ``transformers.pipeline`` takes a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def pipeline_input(kept: Any, folder: Path) -> Any:
    """Return what a pipeline takes: the text, or a dictionary with ``text`` and ``text_pair``."""
    return kept
