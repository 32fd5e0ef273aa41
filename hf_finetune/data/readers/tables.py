"""One file of rows: CSV, TSV, JSON, JSONL, Parquet or Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.data.readers.delimited import read_delimited, read_head
from hf_finetune.data.readers.dialect import QUOTING
from hf_finetune.data.readers.encoding import find_encoding
from hf_finetune.data.readers.json_rows import read_json
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
    file, builder = _known(path)
    try:
        if builder == "csv":
            return read_delimited(file, _usual(file), encoding, delimiter)
        if builder == "json":
            return read_json(file, encoding)
        return _read_columns(file, builder)
    except OSError as error:
        raise UserError(
            f"the file cannot be read ({error})", where=str(path), fix="check the file's rights."
        ) from error


def how_to_read(
    path: str | Path, encoding: str | None = None, delimiter: str | None = None
) -> tuple[str, dict[str, Any]]:
    """The format of a file as ``load_dataset`` calls it, and the options that it is read with, a part at a time.

    Raises:
        UserError: no such file, an unknown ending, an empty file, or a header that cannot be read.
    """
    from datasets import Features, Value

    file, builder = _known(path)
    if builder == "json":
        return builder, {"encoding": find_encoding(file, encoding)}
    if builder != "csv":
        return builder, {}
    codec, dialect, header, index = read_head(file, _usual(file), encoding, delimiter)
    if index:
        raise UserError(
            "the first column has no name", where=str(path), fix="name every column in the first line of the file."
        )
    features = Features({column: Value("string") for column in header})
    options = {"sep": dialect.delimiter, "encoding": codec, "keep_default_na": False, "features": features}
    return builder, options | {key: value for key, value in QUOTING[dialect.quoting].items() if value is not None}


def _known(path: str | Path) -> tuple[Path, str]:
    """The file, which is there and not empty, and its format."""
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
    return file, builder


def _usual(file: Path) -> str:
    """The delimiter that the ending of a file says."""
    return "\t" if file.suffix.lower() == ".tsv" else ","


def _read_columns(file: Path, builder: str) -> Dataset:
    """Parquet or Arrow."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        return load_dataset(builder, data_files=str(file), split="train")
    except (DatasetGenerationError, ValueError, OSError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        # Of Parquet without rows Arrow says that a batch must have some.
        if "corresponds to no data" in str(error) or "BatchSize must be greater than 0" in str(cause):
            raise UserError("the file has no rows", where=str(file), fix="give a file with rows.") from error
        raise UserError(
            f"the rows cannot be read: {first_line(cause)}",
            where=str(file),
            fix="mend the file, or save it anew.",
        ) from error
