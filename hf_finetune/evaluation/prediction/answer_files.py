"""Tables of predictions as CSV, JSONL or Parquet, written in pieces and joined without loading them into memory."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hf_finetune.console import say
from hf_finetune.errors import UserError
from hf_finetune.files import write_json, writing

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (".csv", ".jsonl", ".parquet")
NOTE = "begun.json"
_OWN = re.compile(r"begun\.(partial|json(\.partial)?)|(whole|\d{6,})\.(csv|jsonl|parquet)(\.new)?")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Unfinished:
    """The pieces of ``labelled.csv`` in ``labelled.csv.partial/``: ``000000.csv``, ``000001.csv`` and so on.

    A killed process leaves complete pieces; the same command then continues after them. If a file cannot be written, a
    ``UserError`` says so, and the pieces are kept.
    """

    output: Path  # the file with all predictions

    @property
    def folder(self) -> Path:
        """The folder of the pieces."""
        return self.output.with_name(f"{self.output.name}.partial")

    def faults(self, made_of: dict[str, Any]) -> list[dict[str, Any]] | None:
        """Return the rows that are left out; None without pieces that depend on the same values (name → value)."""
        note = self._note()
        return note["faults"] if note.get("made_of") == made_of else None

    def done(self) -> int:
        """Return the number of finished pieces."""
        return next(number for number in itertools.count() if not self._piece(number).exists())

    def begin(self, made_of: dict[str, Any], faults: list[dict[str, Any]]) -> None:
        """Create the folder, note the rows that are left out, and remove older pieces, which depend on other values."""
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            files = list(self.folder.iterdir())
            others = [path.name for path in files if not _OWN.fullmatch(path.name)]
            if others:
                raise UserError(
                    f"the folder for unfinished predictions contains another file ({others[0]})",
                    where=str(self.folder),
                    fix="move the file, or choose another --output.",
                )
            before = self._note().get("made_of")
            if before is not None:
                changed = [name for name in made_of if before.get(name) != made_of[name]]
                say(f"{self.folder} was started with other {' and '.join(changed)}: all rows are predicted again.")
            for path in files:
                path.unlink()
            write_json(self.folder / NOTE, {"made_of": made_of, "faults": faults})

    def write(self, number: int, table: pa.Table) -> None:
        """Write a piece."""
        with self._writing():
            write_piece(table, self._piece(number))

    def finish(self, schema: pa.Schema, faults: list[dict[str, Any]], listed: Path | None) -> None:
        """Join the pieces atomically into the output, write the ``faults`` to ``listed``, and remove the folder."""
        whole = self.folder / f"whole{self.output.suffix}"
        with self._writing():
            join_pieces([self._piece(number) for number in range(self.done())], schema, whole)
            if listed is not None:
                lines = (json.dumps(fault, ensure_ascii=False) + "\n" for fault in faults)
                listed.write_text("".join(lines), encoding="utf-8")
            whole.replace(self.output)
        shutil.rmtree(self.folder)

    def _piece(self, number: int) -> Path:
        return self.folder / f"{number:06}{self.output.suffix}"

    def _note(self) -> dict[str, Any]:
        path = self.folder / NOTE
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _writing(self) -> AbstractContextManager[None]:
        fix = "free disk space or make the folder writable, and repeat the command, which continues where it stopped"
        return writing("file", str(self.output), f"{fix}; or choose another --output.")


def write_piece(table: pa.Table, path: Path) -> None:
    """Write a piece atomically in the format of the file extension; CSV without header."""
    partial = path.with_name(f"{path.name}.new")
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, partial)
    else:
        with partial.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                _write_csv(table, file)
            else:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
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
