"""CSV, TSV and their kin: rows of cells that all stay text."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.console import say
from hf_finetune.data.readers.arrow_rows import keep_rows
from hf_finetune.data.readers.dialect import NAMES, Dialect, allow_long_cells, find_dialect, parse_delimiter
from hf_finetune.data.readers.encoding import find_encoding
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

SAMPLE = 2**18  # characters that the dialect is read off
ROWS = 10_000  # rows held at once


def read_delimited(file: Path, usual: str, encoding: str | None = None, delimiter: str | None = None) -> Dataset:
    """Rows of text cells. A label ``01`` keeps its zero and ``NA`` its name; a cell that a row lacks is None.

    Args:
        file: has a header.
        usual: the delimiter that its ending says.
        encoding, delimiter: what the user names; None to find them, and to say them where they are unusual.

    Raises:
        UserError: an encoding or a delimiter that cannot be, a header without or with repeated names, unbalanced quotes,
            a row with more cells than the header, or no rows.
    """
    import pyarrow as pa

    codec, dialect, header, index = read_head(file, usual, encoding, delimiter)
    schema = pa.schema([(name, pa.string()) for name in header[index:]])
    return keep_rows(
        file,
        [codec, dialect.delimiter, dialect.quoting],
        lambda: (schema, _batches(file, codec, dialect, len(header), index, schema)),
    )


def read_head(
    file: Path, usual: str, encoding: str | None, delimiter: str | None
) -> tuple[str, Dialect, list[str], int]:
    """Encoding, dialect and header of a file; and 1 if its first column is an index that is not read, else 0."""
    asked = parse_delimiter(delimiter) if delimiter else None
    codec = find_encoding(file, encoding)
    with file.open(encoding=codec, newline="") as stream:
        sample = stream.read(SAMPLE)
    dialect = find_dialect(sample, len(sample) < SAMPLE, usual, asked)
    _say_dialect(file, dialect, asked or usual)
    return codec, dialect, *_header(file, codec, dialect)


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


def _batches(
    file: Path, codec: str, dialect: Dialect, width: int, index: int, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    rows = _rows(file, codec, dialect)
    next(rows)
    held: list[list[Any]] = []
    for line, row in rows:
        if len(row) != width:
            if len(row) > width:
                raise UserError(
                    f"line {line} has {len(row)} cells, but the header has {width}",
                    where=str(file),
                    fix=f"put cells that hold {dialect.delimiter!r} in quotes, or name what separates them with --delimiter.",
                )
            held.append([*row, *[None] * (width - len(row))])
        else:
            held.append(row)
        if len(held) == ROWS:
            yield _batch(held, index, schema)
            held = []
    if held:
        yield _batch(held, index, schema)


def _batch(rows: list[list[Any]], index: int, schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    columns = list(zip(*rows, strict=True))[index:]
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=schema)


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
