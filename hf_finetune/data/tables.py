"""One file of rows: CSV, TSV, JSON, JSONL, Parquet or Arrow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

BUILDERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
}

_NULL_ROW = re.compile(rb"(?:\xef\xbb\xbf)?\s*null\b")
_NULL_ITEM = re.compile(rb"[\[,]\s*null\s*[,\]]")


def read_file(path: str | Path) -> Dataset:
    """One file of rows. CSV and TSV cells stay text, so that a label ``01`` keeps its zero and ``NA`` its name.

    Raises:
        UserError: no such file, an unknown ending, an empty file, or rows that cannot be parsed.
    """
    from datasets import Features, Value, load_dataset
    from datasets.exceptions import DatasetGenerationError

    file = Path(path)
    if not file.is_file():
        raise UserError("the file does not exist", where=str(path), fix="check the path.")
    builder = BUILDERS.get(file.suffix.lower())
    if builder is None:
        raise UserError(
            f"files ending in {file.suffix or '(nothing)'!r} are not read",
            where=str(path),
            fix=f"use one of {', '.join(BUILDERS)}.",
        )
    if file.stat().st_size == 0:
        raise UserError("the file is empty", where=str(path), fix="give a file with a row or more.")
    options: dict[str, object] = {}
    if builder == "csv":
        separator = "\t" if file.suffix.lower() == ".tsv" else ","
        header = _csv_header(file, separator)
        options = {
            "sep": separator,
            "keep_default_na": False,
            "features": Features({c: Value("string") for c in header}),
        }
    if builder == "json":
        _refuse_null_rows(file)
    try:
        return load_dataset(builder, data_files=str(file), split="train", **options)
    except (DatasetGenerationError, ValueError, OSError) as error:
        cause = error.__cause__ or error
        # Of Parquet without rows Arrow says that a batch must have some.
        if "corresponds to no data" in str(error) or "BatchSize must be greater than 0" in str(cause):
            raise UserError("the file has no rows", where=str(path), fix="give a file with rows.") from error
        raise UserError(
            f"the rows cannot be read: {cause}", where=str(path), fix="mend the file, or save it anew."
        ) from error


def _refuse_null_rows(file: Path) -> None:
    """Refuse rows that are ``null``: Arrow's JSON reader ends the whole process where a block of rows begins with one."""
    with file.open("rb") as lines:
        first = lines.readline()
        numbers: Iterable[int]
        if first.lstrip(b"\xef\xbb\xbf \t").startswith(b"["):
            numbers = _null_items(first + lines.read())
        else:
            numbers = (n for n, line in enumerate(chain([first], lines), 1) if _NULL_ROW.match(line))
        for number in numbers:
            raise UserError(
                f"row {number} is null; expected an object", where=str(file), fix="drop the row, or fill it in."
            )


def _null_items(content: bytes) -> list[int]:
    """Numbers of the items of a JSON list that are null; none of what is no JSON, of which the reader will say more."""
    if not _NULL_ITEM.search(content):
        return []
    try:
        rows = json.loads(content)
    except ValueError:
        return []
    return [number for number, row in enumerate(rows, 1) if row is None]


def _csv_header(file: Path, separator: str) -> list[str]:
    import pandas as pd

    try:
        head = pd.read_csv(file, sep=separator, nrows=1, dtype=str)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"the header cannot be read: {error}", where=str(file), fix="save it as UTF-8 CSV.") from error
    if not isinstance(head.index, pd.RangeIndex):  # pandas would take the first cells for an index, and shift the rest
        raise UserError(
            f"the first row has more cells than the header has names ({len(head.columns)})",
            where=str(file),
            fix="put cells with separators in quotes, or name every column.",
        )
    return [str(column) for column in head.columns]
