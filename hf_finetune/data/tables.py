"""One file of rows: CSV, TSV, JSON, JSONL, Parquet or Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.data.delimited import read_delimited
from hf_finetune.data.json_rows import read_json
from hf_finetune.errors import UserError, first_line

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


def read_file(path: str | Path, encoding: str | None = None, delimiter: str | None = None) -> Dataset:
    """One file of rows. CSV and TSV cells stay text, so that a label ``01`` keeps its zero and ``NA`` its name.

    Args:
        path: its ending says what it is.
        encoding: of CSV, TSV, JSON and JSONL; None to find it.
        delimiter: of CSV and TSV; None to find it.

    Raises:
        UserError: no such file, an unknown ending, an empty file, or rows that cannot be parsed.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError("the file does not exist", where=str(path), fix="check the path.")
    ending = file.suffix.lower()
    builder = BUILDERS.get(ending)
    if builder is None:
        raise UserError(
            f"files ending in {file.suffix or '(nothing)'!r} are not read",
            where=str(path),
            fix=f"use one of {', '.join(BUILDERS)}.",
        )
    try:
        if file.stat().st_size == 0:
            raise UserError("the file is empty", where=str(path), fix="give a file with a row or more.")
        if builder == "csv":
            return read_delimited(file, "\t" if ending == ".tsv" else ",", encoding, delimiter)
        if builder == "json":
            return read_json(file, encoding)
        return _read_columns(file, builder)
    except OSError as error:
        raise UserError(
            f"the file cannot be read ({error})", where=str(path), fix="check the file's rights."
        ) from error


def _read_columns(file: Path, builder: str) -> Dataset:
    """Parquet or Arrow."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        return load_dataset(builder, data_files=str(file), split="train")
    except (DatasetGenerationError, ValueError, OSError) as error:
        if "corresponds to no data" in str(error):
            raise UserError("the file has no rows", where=str(file), fix="give a file with rows.") from error
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise UserError(
            f"the rows cannot be read: {first_line(cause)}",
            where=str(file),
            fix="mend the file, or save it anew.",
        ) from error
