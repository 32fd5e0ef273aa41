"""``history.json``: what the Trainer logged, phase by phase."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hf_finetune.console import is_main_process
from hf_finetune.files import write_json

FILE = "history.json"


def keep_history(folder: Path, phase: str, entries: list[dict[str, Any]]) -> None:
    """Put the entries of a phase behind those of the phases before it; what an earlier try left of it is replaced.

    Args:
        folder: the run's.
        phase: its name.
        entries: the Trainer's ``log_history``; of a resumed phase it begins before the interruption.
    """
    if not is_main_process():
        return
    path = folder / FILE
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [entry for entry in before if entry["phase"] != phase]
    write_json(path, kept + [{"phase": phase} | entry for entry in entries])
