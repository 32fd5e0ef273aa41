"""What inputs in files share, images and recordings: facts of an audit, a single file as a row, and kept samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, Features, Value

from hf_finetune.data.rows.finding import Section, Severity, percent, row_ids
from hf_finetune.data.splits.splits import Splits
from hf_finetune.errors import UserError

# Code → severity (an error is a warning if bad rows are dropped), which files, what is odd about them, and the fix.
Oddities = dict[str, tuple[Severity, Callable[[Any], object], str, str]]


@dataclass(frozen=True)
class Inspected:
    """Facts about the inspected files of a split; ``error`` of one is why it cannot be read, or None."""

    rows: np.ndarray
    facts: list[Any]

    @property
    def readable(self) -> np.ndarray:
        """Return whether each file can be read, shape (rows,)."""
        return np.array([not each.error for each in self.facts], dtype=bool)


def without_unreadable(splits: Splits, inspected: Mapping[str, Inspected]) -> Splits:
    """Return the splits without unreadable files; a held-out split without any other is left out."""
    kept: dict[str, Any] = {}
    for name, split in splits.items():
        rows = np.setdiff1d(np.arange(len(split)), inspected[name].rows[~inspected[name].readable])
        kept[name] = split.select(rows) if len(rows) or name == "train" else None
    return replace(splits, **kept)


def readable_rows(inspected: Mapping[str, Inspected], rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with inspected, readable files; their ``place`` is their index in ``inspected``."""
    seen = [
        pd.DataFrame({"split": name, "row": each.rows, "place": np.arange(len(each.rows))})[each.readable]
        for name, each in inspected.items()
    ]
    return rows.merge(pd.concat(seen, ignore_index=True), on=["split", "row"], how="inner")


def add_findings(section: Section, name: str, split: Any, seen: Inspected, on_bad: str, oddities: Oddities) -> None:
    """Add what is odd about the files of one split, and how many were inspected if not all.

    ``section.key`` names them, e.g. ``images``.
    """
    if len(seen.rows) < len(split):
        inspected = f"{len(seen.rows):,} of {len(split):,} {section.key}"
        section.sentences.append(f"{inspected} of the {name} split were looked at.")
    for code, (severity, wanted, what, fix) in oddities.items():
        places = [i for i, facts in enumerate(seen.facts) if wanted(facts)]
        if not places:
            continue
        ids = row_ids(split, seen.rows[places])
        reasons = [seen.facts[i].error for i in places]
        named = [f"{own} ({reason})" if reason else own for own, reason in zip(ids, reasons, strict=False)]
        share = percent(len(places), len(seen.facts))
        section.add(
            code,
            "warning" if severity == "error" and on_bad == "skip" else severity,
            f"{len(places):,} of {len(seen.facts):,} {section.key} ({share}) {what}",
            where=f"{name} split",
            rows=named,
            fix=fix,
        )


def row_of_file(path: str, column: str, feature: Any, what: str, decode_fault: Callable[[Any], str | None]) -> Dataset:
    """Return a split of one row, a file in ``column``.

    Raises:
        UserError: the file cannot be read; ``what`` names it in the message.
    """
    cell = {"bytes": None, "path": path}
    fault = decode_fault(cell)
    if fault:
        raise UserError(f"this {what} cannot be read ({fault})", fix="choose another one.")
    features = Features({"id": Value("string"), column: feature})
    return Dataset.from_dict({"id": ["0"], column: [cell]}, features=features)


def pipeline_input(kept: Any, folder: Path) -> Any:
    """Return the path of a file that was kept in a sample."""
    return str((folder / str(kept)).absolute())
