"""The window of audio models: the length to which some of them fill up each recording."""

from __future__ import annotations

from typing import Any


def window_of(processor: Any) -> float | None:
    """Return the seconds to which a feature extractor fills up each recording; None if it leaves its length."""
    if getattr(processor, "chunk_length", None):  # Whisper
        return float(processor.chunk_length)
    if getattr(processor, "num_mel_bins", None) and getattr(processor, "max_length", None):  # AST: frames of 10 ms
        return 0.01 * processor.max_length
    return None
