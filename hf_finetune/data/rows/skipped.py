"""Rows that were left out: counted, said, noted for the model card, and listed one by one in ``skipped.jsonl``."""

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
    """Add rows to those that a run skipped, and say and note their number.

    Args:
        skipped: the list of the run, ``Splits.skipped``.
        split: ``train``, ``validation`` or ``test``.
        rows: of each its number from 1 as the user counts, its id, and the reason.
        notes: ``Splits.notes``.
        what: the rows by name, e.g. "images".
    """
    if not rows:
        return
    skipped += [{"split": split, "row": row, "id": id, "reason": reason} for row, id, reason in rows]
    reasons = ", ".join(dict.fromkeys(reason for _, _, reason in rows))
    shown = ", ".join(str(row) for row, _, _ in rows[:5]) + (", …" if len(rows) > 5 else "")
    note = f"{len(rows)} {what} of the {split} split are skipped ({reasons}): {shown}."
    say(f"Warning: {note}")
    notes.append(note)


def write_skipped(skipped: list[dict[str, Any]], folder: Path) -> None:
    """One JSON object a skipped row, in ``skipped.jsonl`` of the run folder; nothing where nothing was skipped."""
    if skipped:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in skipped)
        (folder / FILE).write_text("".join(lines), encoding="utf-8")
