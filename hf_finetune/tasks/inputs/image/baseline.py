"""Features for the baseline of images: those of the pretrained backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

baseline_name: str = "{linear} on the untouched backbone"


def baseline_features(parts: dict[str, Any], backbone: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return split → features of the pretrained backbone, shape (rows, features); None if there are none."""
    return backbone()
