"""How a file of cells is written: what separates them and how they are quoted, read off its first rows.

``csv.Sniffer`` is not used: it takes a letter for the delimiter of a file with one column, and does not test its answer on the rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hf_finetune.errors import UserError

DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
LARGEST_CELL = 10_000_000  # characters; a quote that is never closed would else take the whole file into one cell

# How cells may be quoted → what the csv module is told. The first is what spreadsheets write.
QUOTING: dict[str, dict[str, Any]] = {
    "": {"quotechar": '"'},
    "spaces before cells are no part of them": {"quotechar": '"', "skipinitialspace": True},
    "quotes within cells are written with a backslash": {"quotechar": '"', "escapechar": "\\"},
    "cells are quoted with '": {"quotechar": "'"},
    "quotes are a part of the cells": {"quotechar": None, "quoting": csv.QUOTE_NONE},
}
PLAIN, SPACED, BACKSLASH, SINGLE, UNQUOTED = QUOTING


@dataclass(frozen=True)
class Dialect:
    """What separates cells, and one of the keys of ``QUOTING``."""

    delimiter: str
    quoting: str = PLAIN

    def rows(self, lines: Iterable[str]) -> Any:
        """A strict reader of the csv module over lines that keep their ends."""
        return csv.reader(lines, delimiter=self.delimiter, strict=True, **QUOTING[self.quoting])


@dataclass(frozen=True)
class _Fit:
    """How the first rows of a file come out: header and rows, and whether the quotes are sound."""

    dialect: Dialect
    rows: list[list[str]]
    sound: bool

    @property
    def width(self) -> int:
        return len(self.rows[0]) if self.rows else 0

    @property
    def clean(self) -> bool:
        """Sound, and no row has more cells than the header."""
        return self.sound and all(len(row) <= self.width for row in self.rows)

    @property
    def exact(self) -> float:
        """Share of the rows below the header that have as many cells."""
        below = self.rows[1:]
        return sum(len(row) == self.width for row in below) / len(below) if below else 1.0


def allow_long_cells() -> None:
    """Let the csv module read cells of ``LARGEST_CELL`` characters; its limit is one for the whole process."""
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))


def find_dialect(sample: str, complete: bool, usual: str, asked: str | None = None) -> Dialect:
    """Return what separates and quotes the cells of a file.

    A delimiter is possible if it splits the header; of several that with which most rows have as many cells as the header,
    the usual one first. Unusual quoting is taken only where the usual one does not fit and it fits every row.

    Args:
        sample: the beginning of the file.
        complete: whether that is all of it; else its last row may be cut.
        usual: what the ending of the file says: a comma or a tab.
        asked: what ``--delimiter`` names; None to find it.
    """
    order = [asked] if asked else [usual, *(d for d in DELIMITERS if d != usual)]
    allow_long_cells()
    fits = [_best_quoting(sample, complete, delimiter) for delimiter in order]
    possible = [fit for fit in fits if fit.width > 1] or fits[:1]
    return max(possible, key=lambda fit: (fit.clean, fit.exact)).dialect  # of equals the first


def parse_delimiter(asked: str) -> str:
    """Return the one character that ``--delimiter`` names; a tab may be written as ``tab`` or ``\\t``.

    Raises:
        UserError: more than one character, or one that cannot separate cells.
    """
    words = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
    found = words.get(asked.lower(), asked)
    if len(found) != 1 or found in "\"'\\\r\n\0" or found.isalnum():
        raise UserError(
            f"{asked!r} cannot separate cells",
            where="--delimiter",
            fix="give one character such as , or ; or |, or the word tab.",
        )
    return found


def _best_quoting(sample: str, complete: bool, delimiter: str) -> _Fit:
    """Return the usual quoting, or another of which the sample has a sign and which fits where the usual one does not."""
    plain = _fit(sample, complete, Dialect(delimiter))
    signs = {
        SPACED: f'{delimiter} "' in sample,
        BACKSLASH: '\\"' in sample,
        SINGLE: plain.sound and (f"{delimiter}'" in sample or "\n'" in sample),
        UNQUOTED: delimiter == "\t",  # files with tabs are often written without any quoting
    }
    if plain.clean:
        signs = {SINGLE: '"' not in sample and _wrapped(plain, "'", 2)}
    for quoting in (quoting for quoting, seen in signs.items() if seen):
        fit = _fit(sample, complete, Dialect(delimiter, quoting))
        # Where whole cells are quoted, a single unpaired quote is a mistake, not the style of the file.
        mistake = quoting == UNQUOTED and _wrapped(fit, '"', 1)
        if fit.clean and fit.exact == 1.0 and fit.width >= plain.width and not mistake:
            return fit
    return plain


def _fit(sample: str, complete: bool, dialect: Dialect) -> _Fit:
    rows: list[list[str]] = []
    try:
        rows.extend(row for row in dialect.rows(io.StringIO(sample, newline="")) if row)
    except csv.Error as error:
        return _Fit(dialect, rows, not complete and "unexpected end" in str(error))  # sound if cut within a cell
    whole = rows if complete or len(rows) < 2 else rows[:-1]
    return _Fit(dialect, whole, sound=True)


def _wrapped(fit: _Fit, quote: str, least: int) -> bool:
    """Return whether all cells of a column begin and end with a quote, and there are enough of them."""
    below = [row for row in fit.rows[1:] if len(row) == fit.width]
    columns = [[cell for cell in column if cell] for column in zip(*below, strict=True)]
    return any(len(cells) >= least and all(len(c) > 1 and c[0] == c[-1] == quote for c in cells) for cells in columns)
