"""How ``transformers.pipeline`` takes an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def pipeline_input(kept: Any, folder: Path) -> Any:
    """Return what a pipeline takes: the path of the file that was kept."""
    return str((folder / str(kept)).absolute())
