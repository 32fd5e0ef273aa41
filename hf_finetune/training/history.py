"""``history.json``: what the Trainer logged, phase by phase."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hf_finetune.console import is_main_process
from hf_finetune.files import write_json

FILE = "history.json"


def save_history(folder: Path, phase: str, entries: list[dict[str, Any]]) -> None:
    """Append the entries of a phase to the history of the run, or replace those that are already there.

    Args:
        folder: the run folder.
        phase: the name of the phase.
        entries: the Trainer's ``log_history``; after resuming it includes the entries before the interruption.
    """
    if not is_main_process():
        return
    path = folder / FILE
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [entry for entry in before if entry["phase"] != phase]
    write_json(path, kept + [{"phase": phase} | entry for entry in entries])
