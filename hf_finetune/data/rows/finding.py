"""Results of checks: findings, tables and facts, for the terminal, the page and the JSON file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

MOST_NAMED = 20  # rows named per finding; the rest are counted
DRAW_SEED = 42  # fixed, so that the same command finds the same rows


@dataclass(frozen=True)
class Finding:
    """A finding: its short name, one sentence, split and column, ids of the first rows concerned, and what to do about it.

    With an ``error`` training would fail or be useless, with a ``warning`` metrics may mislead; an ``info`` is good to know.
    """

    code: str
    severity: Severity
    message: str
    where: str = ""
    rows: list[str] = field(default_factory=list)
    fix: str = ""


@dataclass(frozen=True)
class Table:
    """A table, or with ``bars`` a histogram whose rows are a name and a number."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    bars: bool = False


@dataclass
class Section:
    """The results of a group of checks: ``key`` is its name in ``check.json``, ``facts`` are its figures there."""

    title: str
    key: str
    facts: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)  # what was checked, and what was not
    tables: list[Table] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, code: str, severity: Severity, message: str, **details: Any) -> None:
        """Add a finding; only the first of its ``rows`` are kept."""
        rows = details.pop("rows", [])[:MOST_NAMED]
        self.findings.append(Finding(code, severity, message, rows=rows, **details))

    def table(self, title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]], *, bars: bool = False) -> None:
        """Add a table."""
        self.tables.append(Table(title, columns, rows, bars))


def draw(rows: int, most: int) -> np.ndarray:
    """Return at most ``most`` row indices, ascending, drawn with a fixed seed."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(DRAW_SEED).choice(rows, most, replace=False))


def row_ids(split: Any, rows: np.ndarray, most: int = MOST_NAMED) -> list[str]:
    """Return the ids of the first ``most`` of these rows."""
    return split.select(rows[:most])["id"][:] if len(rows) else []


def percent(part: float, whole: float) -> str:
    """Return a share as text: ``3.2%``."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f}%" if share < 10 else f"{share:.0f}%"
