"""CSV, TSV and similar files: rows of cells that all stay text.

Python's ``csv`` reads them and not ``pyarrow.csv``, which counts rows and not lines once a cell has a line break, cannot fill a
row that ends early, and joins text behind a closing quote to the cell without an error. ``csv.Sniffer`` is not used: it takes a
letter for the delimiter of a file with one column, and does not test its answer on the rows.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from hf_finetune.console import say
from hf_finetune.data.readers.encoding import find_encoding
from hf_finetune.data.readers.source import Source, refuse_other_columns
from hf_finetune.errors import UserError

SAMPLE = 2**18  # characters that the dialect is read off
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
        csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))  # of the whole process
        return csv.reader(lines, delimiter=self.delimiter, strict=True, **QUOTING[self.quoting])


def open_delimited(files: list[Path], name: str, encoding: str | None = None, delimiter: str | None = None) -> Source:
    """Return rows of text cells. A label ``01`` keeps its zero and ``NA`` its name; a cell that a row lacks is None.

    Args:
        files: each has a header, and all the same.
        name: what they are called in messages.
        encoding, delimiter: what the user names; None to find them, and to say them where they are unusual.

    Raises:
        UserError: an encoding or a delimiter that cannot be, a header without or with repeated names, unbalanced quotes,
            a row with more cells than the header, or other columns than in the first file.
    """
    tables = [_open(file, encoding, delimiter) for file in files]
    columns = _columns(tables[0])
    for table in tables[1:]:
        refuse_other_columns(_columns(table), columns, table.file, files[0])
    schema = pa.schema([(column, pa.string()) for column in columns])
    how = [(table.codec, table.dialect.delimiter, table.dialect.quoting) for table in tables]
    return Source(name, lambda: schema, partial(_blocks, tables), files, how)


@dataclass(frozen=True)
class _Table:
    """One file, and how it is written."""

    file: Path
    codec: str
    dialect: Dialect

    def rows(self) -> Iterator[list[Any]]:
        """Yield the header and each row that is not empty, as wide as the header: cells that it lacks are None."""
        header: list[str] = []
        begin = 1  # the line that a row begins in
        with self.file.open(encoding=self.codec, newline="") as stream:
            reader = self.dialect.rows(stream)
            try:
                for row in reader:
                    if not header and row:
                        header = [row[0].removeprefix("\ufeff"), *row[1:]]
                        yield header
                    elif len(row) > len(header):
                        raise self._too_wide(row, begin, len(header))
                    elif row:
                        yield row + [None] * (len(header) - len(row))
                    begin = reader.line_num + 1
            except csv.Error as error:
                raise self._unbalanced(error, begin, reader.line_num) from error

    def _too_wide(self, row: list[str], line: int, width: int) -> UserError:
        return UserError(
            f"line {line} has {len(row)} cells, but the header has {width}",
            where=str(self.file),
            fix=f"put cells that hold {self.dialect.delimiter!r} in quotes, or name what separates them with --delimiter.",
        )

    def _unbalanced(self, error: csv.Error, begin: int, end: int) -> UserError:
        if "unexpected end" in str(error):
            what = "a quote opens in it and never closes"
        elif "field limit" in str(error):
            what = f"a cell is longer than {csv.field_size_limit():,} characters, as where a quote never closes"
        else:
            what = f"its quotes are unbalanced ({error}{f'; line {end}' if end > begin else ''})"
        return UserError(
            f"the row that begins in line {begin} cannot be read: {what}",
            where=str(self.file),
            fix='put the cell in quotes, and write every quote within it twice: "".',
        )


def _open(file: Path, encoding: str | None, delimiter: str | None) -> _Table:
    asked = parse_delimiter(delimiter) if delimiter else None
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    codec = find_encoding(file, encoding)
    with file.open(encoding=codec, newline="") as stream:
        sample = stream.read(SAMPLE)
    dialect = find_dialect(sample, len(sample) < SAMPLE, usual, asked)
    said = [] if dialect.delimiter == (asked or usual) else [f"cells are separated by {NAMES[dialect.delimiter]}"]
    said += [dialect.quoting] if dialect.quoting else []
    if said:
        say(f"{file.name}: {' and '.join(said)}.")
    return _Table(file, codec, dialect)


def _columns(table: _Table) -> list[str]:
    """The names in the header, without that of the index that pandas writes in front, which has no name and is not read."""
    file, rows = table.file, table.rows()
    header = next(rows, None)
    if header is None:
        raise UserError(
            "the header cannot be read: all lines are empty", where=str(file), fix="give a header and rows."
        )
    first = next(rows, [""])
    index = int(len(header) > 1 and not header[0].strip() and first[0].isdecimal())
    if index:
        say(f"{file.name}: the first column has no name and holds numbers, an index; it is not read.")
    for position, name in enumerate(header[index:], index + 1):
        if not name.strip():
            raise UserError(
                f"column {position} of {len(header)} has no name in the header",
                where=str(file),
                fix="name every column in the first line, or remove that column.",
            )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise UserError(
            f"the header has the name {twice[0]!r} more than once",
            where=str(file),
            fix="give every column a name of its own.",
        )
    return header[index:]


def _blocks(tables: list[_Table], columns: list[str], size: int) -> Iterator[pa.Table]:
    """Rows are taken apart as they come: thousands held at once cost the garbage collector more time than parsing them."""
    for table in tables:
        rows = table.rows()
        header = next(rows)
        while True:
            cells: dict[str, list[str | None]] = {name: [] for name in columns}
            places = [(header.index(name), found) for name, found in cells.items()]
            for row in islice(rows, size):
                for place, found in places:
                    found.append(row[place])
            if not cells[columns[0]]:
                break
            yield pa.table({name: pa.array(found, pa.string()) for name, found in cells.items()})


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
