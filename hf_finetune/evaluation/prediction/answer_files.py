"""Write tables of predictions as CSV, JSONL or Parquet in pieces, and join them without loading them into memory."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (".csv", ".jsonl", ".parquet")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


def write_piece(table: pa.Table, path: Path) -> None:
    """Write a piece atomically in the format of the file extension; CSV without header."""
    partial = path.with_name(f"{path.name}.new")
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, partial)
    else:
        with partial.open("w", encoding="utf-8", newline="") as file:
            write_lines = _write_csv if path.suffix == ".csv" else _write_jsonl
            write_lines(table, file)
    partial.replace(path)


def join_pieces(pieces: list[Path], schema: pa.Schema, path: Path) -> None:
    """Join all pieces in order; CSV gets a header."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetWriter(path, schema) as writer:
            for piece in pieces:
                writer.write_table(pq.read_table(piece))
        return
    with path.open("wb") as whole:
        if path.suffix == ".csv":
            whole.write((",".join(schema.names) + "\n").encode())
        for piece in pieces:
            with piece.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)


def _write_csv(table: pa.Table, file: IO[str]) -> None:
    plain = csv.writer(file, lineterminator="\n")
    # Python before 3.13 does not quote carriage returns, which end a row.
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for row in zip(*table.to_pydict().values(), strict=True):
        cells = [_csv_cell(value) for value in row]
        broken = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoted if broken else plain).writerow(cells)


def _csv_cell(value: Any) -> Any:
    """Return lists as JSON, and text that a spreadsheet would run as a formula with a leading ``'``."""
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def _write_jsonl(table: pa.Table, file: IO[str]) -> None:
    columns = table.to_pydict()
    for row in zip(*columns.values(), strict=True):
        file.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")
