"""Hashes of the images of a split and of the image processor, for the names of caches."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def fingerprint(encoded: Any, processor: Any) -> str:
    """Return a hash of the images and of the processor's settings; files count by path, size and time of the last change."""
    digest = hashlib.sha256()
    for batch in encoded.split.select_columns(["image"]).with_format("arrow").iter(1000):
        for cell in batch["image"].to_pylist():
            digest.update(_image(cell))
    digest.update(describe_processor(processor).encode())
    return digest.hexdigest()


def describe_processor(processor: Any) -> str:
    if hasattr(processor, "data_config"):  # timm's
        return json.dumps(processor.data_config, sort_keys=True, default=str)
    return json.dumps(processor.to_dict(), sort_keys=True, default=str) if hasattr(processor, "to_dict") else ""


def _image(cell: dict[str, Any]) -> bytes:
    if cell.get("bytes") is not None:
        return hashlib.sha256(cell["bytes"]).digest()
    path = Path(cell["path"]).absolute()
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns};".encode()
