"""A folder of ``.txt`` files, one sub-folder a class: every file is a row."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.console import say
from hf_finetune.data.readers.arrow_rows import keep_rows
from hf_finetune.data.readers.class_folders import files_by_class, split_folders
from hf_finetune.data.readers.encoding import SAMPLE, guess, is_utf8, known_encoding, mark_of, refuse_formats
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, Features

LARGEST = 10_000_000  # bytes of one file; more is no text that anybody labelled
ENDINGS = frozenset({".txt"})
ROWS = 1_000  # files held at once


def find_text_splits(root: Path) -> dict[str, Path]:
    """The split folders above the classes; empty where the classes stand at the top of the folder."""
    return split_folders(root, ENDINGS)


def read_text_folder(root: Path, encoding: str | None = None) -> Dataset:
    """One sub-folder a class, ``.txt`` files at any depth below it; columns ``id``, ``text``, ``label`` (ClassLabel).

    Classes and files stand in natural order; hidden files are passed over; the id is the path below the folder. The line
    end that closes a file is no part of its text, and an empty file is an empty text.

    Args:
        root: the folder.
        encoding: of all files; None to take UTF-8, a byte order mark, or what fits those that are neither, and say it.

    Raises:
        UserError: no such folder, no class folder with a text in it, a link that leads out of the folder, or a file that is
            too large, binary or in another encoding.
    """
    from datasets import ClassLabel, Features, Value

    codec = known_encoding(encoding) if encoding else None
    texts = {name: [f for f in files if f.is_file()] for name, files in files_by_class(root, ENDINGS).items()}
    if not texts:
        raise UserError(
            "no .txt files in class folders were found",
            where=str(root),
            fix="put the texts of each class into a sub-folder named after it: FOLDER/CLASS/text.txt.",
        )
    classes = list(texts)
    rows = [(file, index) for index, files in enumerate(texts.values()) for file in files]
    stats = [(file.relative_to(root).as_posix(), _small(file).st_size, file.stat().st_mtime_ns) for file, _ in rows]
    fallback = None if codec else _find_fallback(root, [file for file, _ in rows])
    features = Features({"id": Value("string"), "text": Value("string"), "label": ClassLabel(names=classes)})
    return keep_rows(
        root,
        [stats, classes, codec, fallback],
        lambda: (features.arrow_schema, _batches(rows, root, features, codec, fallback)),
    )


def _small(file: Path) -> os.stat_result:
    stat = file.stat()
    if stat.st_size > LARGEST:
        raise UserError(
            f"the file has {stat.st_size / 1e6:.0f} MB; a text may have {LARGEST / 1e6:.0f}",
            where=str(file),
            fix="split it into the texts that it holds, or remove it.",
        )
    return stat


def _find_fallback(root: Path, files: list[Path]) -> str | None:
    """The one encoding of the files that are neither UTF-8 nor marked; small files tell it together only."""
    odd, sample = 0, bytearray()
    example = b""
    for file in files:
        content = file.read_bytes()
        if mark_of(content) or is_utf8(content):
            continue
        odd += 1
        example = example or content
        _refuse_binary(content, file)
        lines = [line for line in content.splitlines(keepends=True) if not line.isascii()]
        sample += b"".join(lines)[: max(SAMPLE - len(sample), 0)]
    if not odd:
        return None
    name = guess(bytes(sample))
    if name is None:
        raise UserError(
            f"{odd} of {len(files)} files are not UTF-8, and no other encoding clearly fits them",
            where=str(root),
            fix="save them as UTF-8, or name their encoding with --encoding.",
        )
    line = next(line for line in example.splitlines() if not line.isascii()).decode(name, "replace").strip()[:60]
    say(
        f"{root.name}: {odd} of {len(files)} files are not UTF-8; read as {name}, as in {line!r}. --encoding names another."
    )
    return name


def _refuse_binary(content: bytes, file: Path) -> None:
    refuse_formats(content[:64], str(file))
    if b"\0" in content:
        raise UserError(
            "the file is binary: it holds NUL bytes, which no text has",
            where=str(file),
            fix="remove it, or name the encoding with --encoding.",
        )


def _batches(
    rows: list[tuple[Path, int]], root: Path, features: Features, codec: str | None, fallback: str | None
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        columns = [
            [file.relative_to(root).as_posix() for file, _ in some],
            [_read(file, codec, fallback) for file, _ in some],
            [index for _, index in some],
        ]
        schema = features.arrow_schema
        yield pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def _read(file: Path, codec: str | None, fallback: str | None) -> str:
    content = file.read_bytes()
    name = codec or mark_of(content) or ("utf-8" if fallback is None or is_utf8(content) else fallback)
    try:
        text = content.decode(name)
    except UnicodeError as error:
        raise UserError(
            f"byte {getattr(error, 'start', 0) + 1} is no text in {name}",
            where=str(file),
            fix="save the file as UTF-8, or name the encoding of all files with --encoding.",
        ) from error
    if "\0" in text:
        _refuse_binary(content, file)
    return text.replace("\r\n", "\n").removesuffix("\n")
