"""The same rows for all sides: read, audited and split as in our recipes."""

from __future__ import annotations

from typing import Any

from hf_finetune.config import Config, parse
from hf_finetune.data import Splits, audit, load_splits
from hf_finetune.tasks import get_task


def read(task: str, flags: dict[str, Any]) -> tuple[Config, Splits]:
    """Return the parsed configuration of these flags, and the rows that they name."""
    argv = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    config = parse([*argv, "--output_dir", "nowhere"])
    kind = get_task(task)
    on_bad = getattr(config.data, f"on_bad_{kind.input.name}", "error")
    return config, audit(load_splits(config.data, kind), kind, on_bad)
