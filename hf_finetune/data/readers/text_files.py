"""Files that hold one text each: their encoding is found for all of them together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.console import say
from hf_finetune.data.readers.encoding import SAMPLE, guess, is_utf8, known_encoding, mark_of, refuse_formats
from hf_finetune.data.readers.source import File
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST = 10_000_000  # bytes of one file; a text that was labelled is never so long


def decode_texts(
    files: list[File], root: Path, encoding: str | None = None
) -> tuple[Callable[[list[File]], pa.Array], Any]:
    """How the texts of these files are read, and what that depends on.

    Args:
        files: all files of a folder or an archive.
        root: the folder, for messages.
        encoding: of all files; None to take UTF-8, a byte order mark, or what fits those that are neither, and say it.

    Raises:
        UserError: a file that is too large, binary or in another encoding.
    """
    codec = known_encoding(encoding) if encoding else None
    stats = []
    for file in files:
        stat = file.path.stat()
        size = stat.st_size if file.size is None else file.size
        if size > LARGEST:
            raise UserError(
                f"the file has {size / 1e6:.0f} MB; a text may have {LARGEST / 1e6:.0f}",
                where=str(file.path),
                fix="split it into the texts that it holds, or remove it.",
            )
        stats.append((str(file.path), file.offset, size, stat.st_mtime_ns))
    fallback = None if codec else _find_fallback(root, files)
    return partial(_texts, codec, fallback), [stats, codec, fallback]


def _texts(codec: str | None, fallback: str | None, files: list[File]) -> pa.Array:
    import pyarrow as pa

    return pa.array([_read(file, codec, fallback) for file in files], pa.string())


def _find_fallback(root: Path, files: list[File]) -> str | None:
    """The one encoding of the files that are neither UTF-8 nor marked; small files tell it together only."""
    odd, sample = 0, bytearray()
    example = b""
    for file in files:
        content = file.read()
        if mark_of(content) or is_utf8(content):
            continue
        odd += 1
        example = example or content
        _refuse_binary(content, file.path)
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


def _refuse_binary(content: bytes, path: Path) -> None:
    refuse_formats(content[:64], str(path))
    if b"\0" in content:
        raise UserError(
            "the file is binary: it holds NUL bytes, which no text has",
            where=str(path),
            fix="remove it, or name the encoding with --encoding.",
        )


def _read(file: File, codec: str | None, fallback: str | None) -> str:
    content = file.read()
    name = codec or mark_of(content) or ("utf-8" if fallback is None or is_utf8(content) else fallback)
    try:
        text = content.decode(name)
    except UnicodeError as error:
        raise UserError(
            f"byte {getattr(error, 'start', 0) + 1} is not text in {name}",
            where=str(file.path),
            fix="save the file as UTF-8, or name the encoding of all files with --encoding.",
        ) from error
    if "\0" in text:
        _refuse_binary(content, file.path)
    return text.replace("\r\n", "\n").removesuffix("\n")
