"""One file of rows: CSV, TSV, JSON, JSONL, Parquet or Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def read_file(path: str | Path) -> Dataset:
    """One file of rows. CSV and TSV cells stay text, so that a label ``01`` keeps its zero and ``NA`` its name.

    Raises:
        UserError: no such file, an unknown ending, an empty file, or rows that cannot be parsed.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    builder, options = how_to_read(path)
    try:
        return load_dataset(builder, data_files=str(path), split="train", **options)
    except (DatasetGenerationError, ValueError, OSError) as error:
        if "corresponds to no data" in str(error):
            raise UserError("the file has no rows", where=str(path), fix="give a file with rows.") from error
        cause = error.__cause__ or error
        raise UserError(
            f"the rows cannot be read: {cause}", where=str(path), fix="mend the file, or save it anew."
        ) from error


def how_to_read(path: str | Path) -> tuple[str, dict[str, Any]]:
    """The format of a file as ``load_dataset`` calls it, and the options that it is read with.

    Raises:
        UserError: no such file, an unknown ending, an empty file, or a header that cannot be read.
    """
    from datasets import Features, Value

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
    if builder != "csv":
        return builder, {}
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    features = Features({column: Value("string") for column in _csv_header(file, separator)})
    return builder, {"sep": separator, "keep_default_na": False, "features": features}


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
