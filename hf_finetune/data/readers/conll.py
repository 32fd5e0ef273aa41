"""CoNLL files: one word a line with its tag in the last column, an empty line between sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa

from hf_finetune.data.readers.encoding import find_encoding
from hf_finetune.data.readers.source import Source
from hf_finetune.errors import UserError

ENDINGS = (".conll", ".iob", ".iob2", ".bio", ".bioes")
_DOCUMENT = "-DOCSTART-"

Sentence = tuple[list[str], list[str], str]  # words, tags, and the number of the document


@dataclass(frozen=True)
class _Table:
    """A file: columns are separated by tabs, or by spaces."""

    file: Path
    codec: str
    tabs: bool
    columns: int

    def cells(self, line: str) -> list[str]:
        return line.split("\t") if self.tabs else line.split()

    def sentences(self) -> Iterator[Sentence]:
        """Yield the sentences; a ``UserError`` for a line that lacks columns."""
        words: list[str] = []
        tags: list[str] = []
        document = 0
        with self.file.open(encoding=self.codec) as stream:
            for number, line in enumerate(stream, 1):
                line = line.strip("\ufeff\r\n ") if self.tabs else line.strip("\ufeff").strip()
                begins = line.startswith(_DOCUMENT)
                if not line or begins:
                    if words:
                        yield words, tags, str(document)
                        words, tags = [], []
                    document += begins
                    continue
                cells = self.cells(line)
                if line.startswith("#") and len(cells) < self.columns:  # a comment, as in CoNLL-U
                    continue
                if len(cells) < self.columns:
                    raise UserError(
                        f"line {number} has {len(cells)} columns, not {self.columns} as the first",
                        where=str(self.file),
                        fix="write a word and its tag in every line, and an empty line between sentences.",
                    )
                words.append(cells[0])
                tags.append(cells[-1])
        if words:
            yield words, tags, str(document)


def open_conll(files: list[Path], name: str, encoding: str | None = None) -> Source:
    """Return the sentences: ``tokens`` (first column), ``ner_tags`` (last column) and ``document``.

    ``-DOCSTART-`` begins a document. Files of one column have no tags.

    Raises:
        UserError: an encoding that cannot be, or a line that lacks columns.
    """
    tables = [_open(file, encoding) for file in files]
    words = pa.list_(pa.string())
    tagged = [("ner_tags", words)] if all(table.columns > 1 for table in tables) else []
    schema = pa.schema([("tokens", words), *tagged, ("document", pa.string())])
    how = ["conll", [(table.codec, table.tabs, table.columns) for table in tables]]
    return Source(name, lambda: schema, partial(_blocks, tables, schema), files, how)


def _open(file: Path, encoding: str | None) -> _Table:
    codec = find_encoding(file, encoding)
    with file.open(encoding=codec) as stream:
        lines = (line.strip("\ufeff\r\n") for line in stream)
        first = next((line for line in lines if line.strip() and not line.startswith(("#", _DOCUMENT))), "")
    tabs = "\t" in first
    return _Table(file, codec, tabs, max(1, len(first.split("\t") if tabs else first.split())))


def _blocks(tables: list[_Table], schema: pa.Schema, columns: list[str], size: int) -> Iterator[pa.Table]:
    for table in tables:
        sentences = table.sentences()
        while block := list(islice(sentences, size)):
            found = dict(zip(("tokens", "ner_tags", "document"), zip(*block, strict=True), strict=True))
            yield pa.table({name: pa.array(list(found[name]), schema.field(name).type) for name in columns})
