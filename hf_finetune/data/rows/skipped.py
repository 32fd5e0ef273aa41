"""Record skipped rows: print and note their number, and list them in ``skipped.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_finetune.console import say

FILE = "skipped.jsonl"


def record_skipped(
    skipped: list[dict[str, Any]],
    split: str,
    rows: Sequence[tuple[int, str, str]],
    notes: list[str],
    what: str = "rows",
) -> None:
    """Add rows, each as number (from 1), id and reason, to a run's skipped ones, and print and note how many they are."""
    if not rows:
        return
    skipped += [{"split": split, "row": row, "id": id, "reason": reason} for row, id, reason in rows]
    reasons = ", ".join(dict.fromkeys(reason for _, _, reason in rows))
    shown = ", ".join(str(row) for row, _, _ in rows[:5]) + (", …" if len(rows) > 5 else "")
    note = f"{len(rows)} {what} of the {split} split are skipped ({reasons}): {shown}."
    say(f"Warning: {note}")
    notes.append(note)


def write_skipped(skipped: list[dict[str, Any]], folder: Path) -> None:
    """Write ``skipped.jsonl`` into the run folder, one object per skipped row; no file if there are none."""
    if skipped:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in skipped)
        (folder / FILE).write_text("".join(lines), encoding="utf-8")
