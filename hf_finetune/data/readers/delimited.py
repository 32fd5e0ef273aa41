"""CSV, TSV and similar files: rows of cells that all stay text.

Python's ``csv`` reads them and not ``pyarrow.csv``, which counts rows and not lines once a cell has a line break, cannot fill a
row that ends early, and joins text behind a closing quote to the cell without an error.
"""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.console import say
from hf_finetune.data.readers.dialect import NAMES, Dialect, allow_long_cells, find_dialect, parse_delimiter
from hf_finetune.data.readers.encoding import find_encoding
from hf_finetune.data.readers.source import Source
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 2**18  # characters that the dialect is read off


@dataclass(frozen=True)
class Head:
    """How a file of cells is written: ``index`` is 1 if its first column is an index that is not read, else 0."""

    file: Path
    codec: str
    dialect: Dialect
    header: list[str]
    index: int


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
    import pyarrow as pa

    heads = [read_head(file, encoding, delimiter) for file in files]
    columns = heads[0].header[heads[0].index :]
    for head in heads:
        refuse_other_columns(head.header[head.index :], columns, head.file, files[0])
    schema = pa.schema([(column, pa.string()) for column in columns])
    how = [(head.codec, head.dialect.delimiter, head.dialect.quoting) for head in heads]
    return Source(name, lambda: schema, partial(_tables, heads), files, how)


def refuse_other_columns(found: list[str], expected: list[str], file: Path, first: Path) -> None:
    """Refuse a file whose columns are not those of the first."""
    if found != expected:
        raise UserError(
            f"the file has other columns than {first}",
            where=str(file),
            fix="give files with the same columns in the same order.",
        )


def read_head(file: Path, encoding: str | None, delimiter: str | None) -> Head:
    """Read encoding, dialect and header of a file."""
    asked = parse_delimiter(delimiter) if delimiter else None
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    codec = find_encoding(file, encoding)
    with file.open(encoding=codec, newline="") as stream:
        sample = stream.read(SAMPLE)
    dialect = find_dialect(sample, len(sample) < SAMPLE, usual, asked)
    _say_dialect(file, dialect, asked or usual)
    return Head(file, codec, dialect, *_header(file, codec, dialect))


def _say_dialect(file: Path, dialect: Dialect, expected: str) -> None:
    said = [] if dialect.delimiter == expected else [f"cells are separated by {NAMES[dialect.delimiter]}"]
    said += [dialect.quoting] if dialect.quoting else []
    if said:
        say(f"{file.name}: {' and '.join(said)}.")


def _header(file: Path, codec: str, dialect: Dialect) -> tuple[list[str], int]:
    """The names of the columns, and 1 if the first is an index that pandas wrote, which has no name and is not read."""
    rows = (row for _, row in _rows(file, codec, dialect))
    header = next(rows, None)
    if header is None:
        raise UserError(
            "the header cannot be read: all lines are empty", where=str(file), fix="give a header and rows."
        )
    header[0] = header[0].removeprefix("\ufeff")
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
    return header, index


def _tables(heads: list[Head], columns: list[str], size: int) -> Iterator[pa.Table]:
    for head in heads:
        allow_long_cells()
        with head.file.open(encoding=head.codec, newline="") as stream:
            rows = filter(None, head.dialect.rows(stream))
            next(rows, None)
            while block := _block(rows, size, head):
                yield _table(block, head, columns)


def _block(rows: Iterator[list[Any]], size: int, head: Head) -> list[list[Any]]:
    """The next rows, as wide as the header. Lines are counted only where a row is broken: that takes twice the time."""
    width = len(head.header)
    try:
        block = list(itertools.islice(rows, size))
    except csv.Error:
        _refuse_broken(head)
        raise
    widths = set(map(len, block))
    if widths and max(widths) > width:
        _refuse_broken(head)
    return block if widths <= {width} else [[*row, *[None] * (width - len(row))] for row in block]


def _table(rows: list[list[Any]], head: Head, columns: list[str]) -> pa.Table:
    import pyarrow as pa

    cells = list(zip(*rows, strict=True))
    return pa.table({name: pa.array(cells[head.header.index(name)], pa.string()) for name in columns})


def _refuse_broken(head: Head) -> None:
    """Name the line of the first row that is too wide, or whose quotes are unbalanced."""
    width, mark = len(head.header), head.dialect.delimiter
    for line, row in _rows(head.file, head.codec, head.dialect):
        if len(row) > width:
            raise UserError(
                f"line {line} has {len(row)} cells, but the header has {width}",
                where=str(head.file),
                fix=f"put cells that hold {mark!r} in quotes, or name what separates them with --delimiter.",
            )


def _rows(file: Path, codec: str, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the line that it begins in, from 1."""
    allow_long_cells()
    line = 0
    with file.open(encoding=codec, newline="") as stream:
        reader = dialect.rows(stream)
        try:
            for row in reader:
                if row:
                    yield line + 1, row
                line = reader.line_num
        except csv.Error as error:
            raise _quotes(file, error, line + 1, reader.line_num) from error


def _quotes(file: Path, error: csv.Error, begin: int, end: int) -> UserError:
    what = f"the row that begins in line {begin} cannot be read: "
    if "unexpected end" in str(error):
        what += "a quote opens in it and never closes"
    elif "field limit" in str(error):
        what += f"a cell is longer than {csv.field_size_limit():,} characters, as where a quote never closes"
    else:
        what += f"its quotes are unbalanced ({error}{f'; line {end}' if end > begin else ''})"
    return UserError(what, where=str(file), fix='put the cell in quotes, and write every quote within it twice: "".')
