"""What a check hands on: findings, tables and facts, which the terminal, the page and the JSON file all show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

# Rows that a finding names; the rest are counted.
MOST_NAMED = 20

# One seed for whatever is drawn, so that the same command finds the same rows.
DRAW_SEED = 42


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        code: short name that stays the same between versions.
        severity: ``error``: training would fail or be worthless; ``warning``: its figures may mislead; ``info``: good to know.
        message: what was found, in one sentence.
        where: split and column.
        rows: the first rows that it was found in, by id.
        fix: what to do about it.
    """

    code: str
    severity: Severity
    message: str
    where: str = ""
    rows: list[str] = field(default_factory=list)
    fix: str = ""


@dataclass(frozen=True)
class Table:
    """A table, or with ``bars`` a histogram: each row is then a name and a number."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    bars: bool = False


@dataclass
class Section:
    """What one family of checks has to say.

    Args:
        title: the heading.
        key: its name in ``check.json``.
        facts: figures, as JSON knows them.
        sentences: what was looked at, and what was not.
        tables: figures for people.
        findings: what is wrong or suspicious.
    """

    title: str
    key: str
    facts: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, code: str, severity: Severity, message: str, **details: Any) -> None:
        """Add a finding; of its ``rows`` the first are named."""
        rows = details.pop("rows", [])[:MOST_NAMED]
        self.findings.append(Finding(code, severity, message, rows=rows, **details))

    def table(self, title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]], *, bars: bool = False) -> None:
        """Add a table."""
        self.tables.append(Table(title, columns, rows, bars))


def draw(rows: int, most: int) -> np.ndarray:
    """At most so many row numbers, drawn with a fixed seed, in their order."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(DRAW_SEED).choice(rows, most, replace=False))


def row_ids(split: Any, rows: Any, most: int = MOST_NAMED) -> list[str]:
    """The ids of the first of some rows."""
    chosen = [int(row) for row in list(rows[:most])]
    return split.select(chosen)["id"][:] if chosen else []


def percent(part: float, whole: float) -> str:
    """A share as people read it: ``3.2%``."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f}%" if share < 10 else f"{share:.0f}%"
