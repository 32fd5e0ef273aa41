"""JSON and JSONL: a list of objects, one object a line, or one list of objects under a key; exports of Label Studio.

Python's ``json`` reads them and not ``pyarrow.json`` or the builder of ``datasets``, which name no line of what is broken and end
where values of a column have several types.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from hf_finetune.console import say
from hf_finetune.data.readers.encoding import find_encoding
from hf_finetune.data.readers.source import Source
from hf_finetune.errors import UserError

ROWS = 10_000  # rows held at once
MIXED = b"hf_finetune.mixed"  # where the kept rows say which columns had several types
Record = tuple[int, dict[str, Any]]  # the line that an object begins in, from 1, and the object

# NaN is how Python writes a missing number.
_DECODER = json.JSONDecoder(parse_constant=lambda name: None if name == "NaN" else float(name))


def open_json(files: list[Path], name: str, encoding: str | None = None) -> Source:
    """Return the rows of JSON or JSONL files; a key that a row lacks is None.

    One object a line is read in blocks, twice: for the types, and for the rows. A list is held as text meanwhile.
    A column whose values have no common type is read as text, and that is said.

    Raises:
        UserError: not JSON, or without objects, with its line; an encoding that cannot be.
    """
    codecs = {file: find_encoding(file, encoding) for file in files}
    schema = cache(partial(_schema, codecs))
    how = ["json", list(codecs.values())]
    return Source(name, schema, partial(_tables, codecs, schema), files, how, partial(_say_mixed, Path(name).name))


def _say_mixed(name: str, schema: pa.Schema) -> None:
    for column in _mixed_columns(schema):
        say(f"{name}: column {column!r} holds values of several types; it is read as text.")


def _mixed_columns(schema: pa.Schema) -> list[str]:
    """Return the columns whose values had no type in common, and are text."""
    return json.loads((schema.metadata or {}).get(MIXED, b"[]"))


def _schema(codecs: dict[Path, str]) -> pa.Schema:
    types = ColumnTypes()
    for file, records in _blocks(codecs, ROWS):
        with _no_surrogates(file, records):
            types.add([row for _, row in records])
    return types.schema()


def _tables(
    codecs: dict[Path, str], schema: Callable[[], pa.Schema], columns: list[str], size: int
) -> Iterator[pa.Table]:
    for file, records in _blocks(codecs, size):
        with _no_surrogates(file, records):
            table = to_table([row for _, row in records], schema(), columns)
        yield table


def _blocks(codecs: dict[Path, str], size: int) -> Iterator[tuple[Path, list[Record]]]:
    for file, codec in codecs.items():
        records = ((line, _row(found)) for line, found in _records(file, codec))
        while block := list(islice(records, size)):
            yield file, block


def _row(found: dict[str, Any]) -> dict[str, Any]:
    """Return an object as it is, and a task of Label Studio's full export as its data with the column ``entities``.

    These are the labels of the first annotation that was not cancelled; None for a task without one.
    """
    data, annotations = (found.get(name, "") for name in ("data", "annotations"))
    if not isinstance(data, dict) or not _are_objects(annotations):
        return found
    results: Any = next((each.get("result") for each in annotations if not each.get("was_cancelled")), None)
    labels = [each.get("value") for each in results if each.get("type") == "labels"] if _are_objects(results) else None
    return {name: found[name] for name in ("id",) if name in found} | data | {"entities": labels}


class ColumnTypes:
    """The types of the columns of objects, block by block; text where values have no type in common."""

    def __init__(self) -> None:
        self.types: dict[str, pa.DataType] = {}
        self.mixed: set[str] = set()

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Take some rows into account."""
        for name in dict.fromkeys(name for row in rows for name in row):
            try:
                found = pa.array([row.get(name) for row in rows]).type
                pair = [pa.schema([(name, kind)]) for kind in (self.types.get(name, found), found)]
                self.types[name] = pa.unify_schemas(pair, promote_options="permissive").field(name).type
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
                self.mixed.add(name)
                self.types[name] = pa.string()

    def schema(self) -> pa.Schema:
        """Return names and types; the metadata says which columns have no type in common."""
        schema = pa.schema(list(self.types.items()))
        return schema.with_metadata({MIXED: json.dumps(sorted(self.mixed))}) if self.mixed else schema


def to_table(rows: list[dict[str, Any]], schema: pa.Schema, columns: list[str]) -> pa.Table:
    """Return these columns of some objects in their types; a key that a row lacks is None."""
    mixed = _mixed_columns(schema)
    found = {}
    for name in columns:
        values = [row.get(name) for row in rows]
        found[name] = pa.array([_as_text(v) for v in values] if name in mixed else values, schema.field(name).type)
    return pa.table(found)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


@contextmanager
def _no_surrogates(file: Path, records: list[Record]) -> Iterator[None]:
    r"""Name half of a ``\ud83d\ude00`` pair, which JSON can spell and no text can hold."""

    def is_half(value: Any) -> bool:
        return any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False))

    try:
        yield
    except UnicodeEncodeError as error:
        line, name = next((line, name) for line, row in records for name, value in row.items() if is_half(value))
        raise UserError(
            f"line {line} holds half of a surrogate pair, as where an emoji was cut",
            where=f"{file}, column {name!r}",
            fix="fix the text, or remove the row.",
        ) from error


def _records(file: Path, codec: str) -> Iterator[Record]:
    """Return the objects of a file, whichever of the forms it has."""
    with file.open(encoding=codec) as stream:
        first = next((line for line in stream if line.strip()), "").lstrip("\ufeff \t\r\n")
        more = any(line.strip() for line in stream)
    if first.startswith("["):
        return _listed(file, file.read_text(codec).lstrip("\ufeff"))
    if (first.startswith("{") and (more and _parses(first))) or file.suffix.lower() == ".jsonl":
        return _one_a_line(file, codec)
    return _under_a_key(file, file.read_text(codec).lstrip("\ufeff"))


def _parses(line: str) -> bool:
    try:
        _DECODER.decode(line)
    except (ValueError, RecursionError):
        return False
    return True


def _one_a_line(file: Path, codec: str) -> Iterator[Record]:
    with file.open(encoding=codec) as stream:
        for number, line in enumerate(stream, 1):
            if number == 1:
                line = line.lstrip("\ufeff")
            if not line.isspace():
                try:
                    yield number, _object(_DECODER.decode(line.rstrip()), file, number)
                except (json.JSONDecodeError, RecursionError) as error:
                    raise _broken(file, error, number) from error


def _listed(file: Path, text: str) -> Iterator[Record]:
    """Yield the objects of a list."""
    line, counted = 1, 0
    position = _skip(text, text.index("[") + 1)
    mark = text[position : position + 1]
    if mark == "]":
        return
    while mark != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, end = _DECODER.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError) as error:
            raise _broken(file, error, line if isinstance(error, RecursionError) else 1) from error
        yield line, _object(value, file, line)
        position = _skip(text, end)
        mark = text[position : position + 1]
        if mark not in (",", "]"):
            raise _broken(file, json.JSONDecodeError("Expecting ',' delimiter", text, position))
        position = _skip(text, position + 1)
    if position < len(text):
        raise _broken(file, json.JSONDecodeError("Extra data", text, position))


def _skip(text: str, position: int) -> int:
    """Return the first position from here on that is not a space."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _under_a_key(file: Path, text: str) -> Iterator[Record]:
    """One object: the list that it holds under ``data``, or under the only key with a list of objects; else one row."""
    try:
        value = _DECODER.decode(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _broken(file, error) from error
    found = _object(value, file, 1)
    lists = {key: rows for key, rows in found.items() if rows and _are_objects(rows)}
    key = "data" if "data" in lists else next(iter(lists)) if len(lists) == 1 else None
    if key is not None:
        return iter([(1, row) for row in lists[key]])
    if not found or any(isinstance(value, (list, dict)) for value in found.values()):
        raise UserError(
            f"the file holds one object with the keys {', '.join(map(repr, list(found)[:5])) or '(none)'}, and not one list "
            "of rows among them",
            where=str(file),
            fix='write one object a line, a list of objects, or {"data": [...]} (pandas: to_json(orient="records")).',
        )
    return iter([(1, found)])


def _are_objects(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


def _object(value: Any, file: Path, line: int) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    raise UserError(
        f"line {line} holds {kinds.get(type(value), 'a number')}, not an object",
        where=str(file),
        fix='write every row as an object: {"text": "…", "label": "…"}.',
    )


def _broken(file: Path, error: json.JSONDecodeError | RecursionError, line: int = 1) -> UserError:
    """What is wrong with the JSON; its place counts from a line of the file, or from the top."""
    what = f"line {line} is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        what = f"line {line + error.lineno - 1} is not JSON: {error.msg} (character {error.colno})"
    return UserError(
        what,
        where=str(file),
        fix="fix that line, or write the file again: one object a line, or a list of objects.",
    )
