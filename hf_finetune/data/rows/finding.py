"""Results of checks: findings, tables and facts, for the terminal, the page and the JSON file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

# Rows named per finding; the rest are counted.
MOST_NAMED = 20

# A fixed seed, so that the same command finds the same rows.
DRAW_SEED = 42


@dataclass(frozen=True)
class Finding:
    """A finding.

    Args:
        code: short name, stable between versions.
        severity: ``error``: training would fail or be useless; ``warning``: metrics may mislead; ``info``: good to know.
        message: one sentence.
        where: split and column.
        rows: ids of the first rows concerned.
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
    """A table, or with ``bars`` a histogram whose rows are a name and a number."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    bars: bool = False


@dataclass
class Section:
    """The results of a group of checks.

    Args:
        title: the heading.
        key: its name in ``check.json``.
        facts: figures for JSON.
        sentences: what was checked, and what was not.
        tables: figures for people.
        findings: errors and suspicious facts.
    """

    title: str
    key: str
    facts: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
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


def row_ids(split: Any, rows: Any, most: int = MOST_NAMED) -> list[str]:
    """Return the ids of the first ``most`` of these rows."""
    chosen = [int(row) for row in list(rows[:most])]
    return split.select(chosen)["id"][:] if chosen else []


def percent(part: float, whole: float) -> str:
    """Return a share as text: ``3.2%``."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f}%" if share < 10 else f"{share:.0f}%"
