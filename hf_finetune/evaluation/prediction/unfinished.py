"""Predictions that are not finished: a folder with the finished pieces, and what they depend on."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.console import say
from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.answer_files import join_pieces, write_piece
from hf_finetune.files import write_json

if TYPE_CHECKING:
    import pyarrow as pa

NOTE = "begun.json"
_OWN = re.compile(r"begun\.(json|partial)|(whole|\d{6,})\.(csv|jsonl|parquet)(\.new)?")


@dataclass(frozen=True)
class Unfinished:
    """The pieces of ``labelled.csv`` in ``labelled.csv.partial/``: ``000000.csv``, ``000001.csv`` and so on.

    A killed process leaves complete pieces; the same command then continues after them.

    Args:
        output: the file with all predictions.
        folder: the folder of the pieces.
        faults: the rows that are left out; None before :meth:`begin`.
    """

    output: Path
    folder: Path
    faults: list[dict[str, Any]] | None = None

    def done(self) -> int:
        """Return the number of finished pieces; 0 before :meth:`begin`."""
        number = 0
        while self.faults is not None and self._piece(number).exists():
            number += 1
        return number

    def begin(self, made_of: dict[str, Any], faults: list[dict[str, Any]]) -> Unfinished:
        """Create the folder; remove pieces that depend on anything else, and print that.

        Args:
            made_of: name → value of everything that the predictions depend on.
            faults: the rows that are left out.

        Raises:
            UserError: the folder cannot be written, or contains other files.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clear(made_of)
            write_json(self.folder / NOTE, {"made_of": made_of, "faults": faults})
        except OSError as error:
            raise _unwritable(self.output, error) from error
        return replace(self, faults=faults)

    def _clear(self, made_of: dict[str, Any]) -> None:
        files = list(self.folder.iterdir())
        others = [path.name for path in files if not _OWN.fullmatch(path.name)]
        if others:
            raise UserError(
                f"the folder for unfinished predictions contains another file ({others[0]})",
                where=str(self.folder),
                fix="move the file, or choose another --output.",
            )
        before = _note(self.folder).get("made_of")
        if before is not None:
            changed = [name for name in made_of if before.get(name) != made_of[name]]
            say(f"{self.folder} was started with other {' and '.join(changed)}: all rows are predicted again.")
        for path in files:
            path.unlink()

    def write(self, number: int, table: pa.Table) -> None:
        """Write a piece.

        Raises:
            UserError: it cannot be written; the earlier pieces are kept.
        """
        try:
            write_piece(table, self._piece(number))
        except OSError as error:
            raise _unwritable(self.output, error) from error

    def finish(self, schema: pa.Schema, listed: Path | None = None) -> None:
        """Join the pieces atomically into the output, and remove the folder.

        Args:
            schema: the columns.
            listed: file for the rows that were left out, one JSON object per line.

        Raises:
            UserError: a file cannot be written; the pieces are kept.
        """
        whole = self.folder / f"whole{self.output.suffix}"
        try:
            join_pieces([self._piece(number) for number in range(self.done())], schema, whole)
            if listed is not None:
                lines = (json.dumps(fault, ensure_ascii=False) + "\n" for fault in self.faults or [])
                listed.write_text("".join(lines), encoding="utf-8")
            whole.replace(self.output)
        except OSError as error:
            raise _unwritable(self.output, error) from error
        shutil.rmtree(self.folder)

    def _piece(self, number: int) -> Path:
        return self.folder / f"{number:06}{self.output.suffix}"


def find_unfinished(output: Path, made_of: dict[str, Any]) -> Unfinished:
    """Return the pieces of an output that depend on the same values; write and remove nothing."""
    folder = output.with_name(f"{output.name}.partial")
    note = _note(folder)
    return Unfinished(output, folder, note["faults"] if note.get("made_of") == made_of else None)


def _note(folder: Path) -> dict[str, Any]:
    path = folder / NOTE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _unwritable(output: Path, error: OSError) -> UserError:
    return UserError(
        f"the file cannot be written ({error})",
        where=str(output),
        fix="free disk space or make the folder writable, and repeat the command, which continues where it stopped; or "
        "choose another --output.",
    )
