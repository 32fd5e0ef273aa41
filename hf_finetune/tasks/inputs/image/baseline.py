"""Features of the baseline of images: those of the untouched backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

baseline_name: str = "{linear} on the untouched backbone"


def baseline_features(parts: dict[str, Any], backbone: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return what the untouched backbone gives its head, shape (rows, features) for each part; None where it gives nothing.

    Args:
        parts: splits by name.
        backbone: gives these features.
    """
    return backbone()
