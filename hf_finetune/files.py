"""Files that are written whole or not at all, and the folder for what can be made again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def cache_dir() -> Path:
    """The user's cache folder: `$HF_FINETUNE_CACHE`, `$XDG_CACHE_HOME/hf-finetune` or `~/.cache/hf-finetune`."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hf-finetune")
    return Path(os.environ.get("HF_FINETUNE_CACHE") or default).expanduser().absolute()


def public_name(name: str) -> str:
    """A Hub id as it is; of a local path only its last part, so that no folder of the user's is published."""
    return name if is_on_hub(name) else Path(name.rstrip("/")).name


def is_on_hub(name: str) -> bool:
    """Whether a name can only be a Hub id: nothing local has it, and it looks like one."""
    return (
        bool(name)
        and not Path(name).exists()
        and not name.startswith(("/", ".", "~"))
        and name.count("/") <= 1
        and "\\" not in name
    )
