"""An output that is not whole yet: its finished pieces in a folder beside it, and what they depend on."""

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

    A process that is killed leaves whole pieces; the next one of the same command goes on behind them.

    Args:
        output: what is made.
        folder: where its pieces are.
        faults: the rows that are left out; None before it is begun.
    """

    output: Path
    folder: Path
    faults: list[dict[str, Any]] | None = None

    def done(self) -> int:
        """How many pieces are there, from the first on; none before it is begun."""
        number = 0
        while self.faults is not None and self._piece(number).exists():
            number += 1
        return number

    def begin(self, made_of: dict[str, Any], faults: list[dict[str, Any]]) -> Unfinished:
        """Make the folder. Pieces that were made of anything else are removed, and that is said.

        Args:
            made_of: all that the rows depend on, by name.
            faults: the rows that are left out.

        Raises:
            UserError: the place cannot be written to, or the folder holds what is not of this kind.
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
                f"unfinished predictions are kept in this folder, and it holds something else ({others[0]})",
                where=str(self.folder),
                fix="move it away, or name another file with --output.",
            )
        before = _note(self.folder).get("made_of")
        if before is not None:
            changed = [name for name in made_of if before.get(name) != made_of[name]]
            say(f"{self.folder} was begun with other {' and '.join(changed)}: all rows are predicted anew.")
        for path in files:
            path.unlink()

    def write(self, number: int, table: pa.Table) -> None:
        """A piece.

        Raises:
            UserError: it cannot be written; the pieces before it stay.
        """
        try:
            write_piece(table, self._piece(number))
        except OSError as error:
            raise _unwritable(self.output, error) from error

    def finish(self, schema: pa.Schema, listed: Path | None = None) -> None:
        """Put the pieces together; the output appears whole or not at all, and the folder goes.

        Args:
            schema: the columns.
            listed: where the rows that were left out are listed, one JSON object a line.

        Raises:
            UserError: it cannot be written; the pieces stay.
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
    """What is there of an output that was made of the very same; nothing is written or removed."""
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
        fix="free disk or mend the folder's rights and repeat the command, which goes on where it stopped; or name another "
        "file with --output.",
    )
