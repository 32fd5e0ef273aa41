"""Which encoding a file of text, or many of one text each, are in: the byte order mark's, UTF-8, or the one that fits.

``charset-normalizer`` ranks encodings by a sample of lines. It names neither byte nor line of what does not fit, and takes one broken
byte in UTF-8 for another encoding: those two are checked here, over the whole file.
"""

from __future__ import annotations

import codecs
import encodings.aliases
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from hf_finetune.console import say
from hf_finetune.data.readers.source import File
from hf_finetune.errors import UserError, did_you_mean

BLOCK = 2**20  # bytes read at once
SAMPLE = 2**16  # bytes that an unknown encoding is told by
LARGEST_TEXT = 10_000_000  # bytes of a file of one text; a text that was labelled is never so long
_NUL = "a NUL character"

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FORMATS = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"SQLite format 3", "a database"),
)
# Encodings that tables are still written in, the more frequent first; the order breaks ties.
_CANDIDATES = (
    "cp1252", "cp1251", "cp1250", "gb18030", "cp932", "big5", "cp949", "euc_jp", "koi8_r", "cp1253", "cp1254", "cp1255",
    "cp1256",
)  # fmt: skip


class _Fault(NamedTuple):
    """The first place of a file that an encoding does not explain; ``byte`` from 0, ``line`` from 1."""

    byte: int
    line: int
    reason: str


def find_encoding(file: Path, asked: str | None = None) -> str:
    """Return the name of the codec that reads the whole file without an error, a byte order mark included.

    The file is read once, in blocks. What is not UTF-8 is said. ``asked`` is what ``--encoding`` names; None to find it.

    Raises:
        UserError: an unknown or a wrong encoding, a binary file, or none that fits.
    """
    with file.open("rb") as stream:
        head = stream.read(2**12)
    name = known_encoding(asked) if asked else _mark_of(head)
    fault = _find_fault(file, name or "utf-8")
    if name is None:
        _refuse_formats(head, file)
        return "utf-8" if fault is None else _other(file, head, fault)
    if fault is None:
        if not asked and name != "utf-8-sig":
            say(f"{file.name}: read as {name.upper()}, which its byte order mark names.")
        return name
    if fault.reason == _NUL:
        _refuse_formats(head, file)
    fix = (
        "name the encoding that the file was saved in, or leave --encoding out." if asked else "save the file as UTF-8."
    )
    raise _wrong(file, asked or name, fault, fix)


def _mark_of(head: bytes) -> str | None:
    """Return the codec that a byte order mark names; None without one."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def known_encoding(name: str) -> str:
    """Return the codec of a name, as Python spells it; ``utf-8`` reads a byte order mark as well.

    Raises:
        UserError: there is none.
    """
    try:
        b"a".decode(name, "ignore")
        codec = codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        hint = did_you_mean(name.lower(), {*encodings.aliases.aliases, *_CANDIDATES, "utf-8"})
        raise UserError(
            f"there is no encoding {name!r}",
            where="--encoding",
            fix=f"{hint}Give a name that Python knows, e.g. utf-8, cp1252, utf-16, gb18030.",
        ) from error
    return "utf-8-sig" if codec == "utf-8" else codec


def _find_fault(file: Path, encoding: str) -> _Fault | None:
    """Return the first place that an encoding does not explain, or a NUL character; None where there is neither."""
    # Without its mark, which would not be counted.
    decoder = codecs.getincrementaldecoder("utf-8" if encoding == "utf-8-sig" else encoding)()
    done, line = 0, 1
    with file.open("rb") as stream:
        while True:
            block = stream.read(BLOCK)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:  # one about a mark that is missing has no place
                start = getattr(error, "start", 0)
                breaks = getattr(error, "object", b"")[:start].count(b"\n")
                return _Fault(max(done - waiting, 0) + start, line + breaks, getattr(error, "reason", str(error)))
            if "\0" in text:
                return _Fault(done + max(block.find(b"\0"), 0), line + text[: text.index("\0")].count("\n"), _NUL)
            if not block:
                return None
            line += text.count("\n")
            done += len(block)


def _refuse_formats(head: bytes, file: Path) -> None:
    """Refuse a file whose first bytes say that it is something else than text."""
    found = next((what for magic, what in _FORMATS if head.startswith(magic)), None)
    if found:
        raise UserError(f"the file is {found}, not text", where=str(file), fix="save it as CSV, JSON or Parquet.")


def _binary(file: Path, fix: str) -> UserError:
    return UserError("the file is binary: it holds NUL bytes, which no text has", where=str(file), fix=fix)


def _wrong(file: Path, name: str, fault: _Fault, fix: str) -> UserError:
    return UserError(
        f"byte {fault.byte + 1}, in line {fault.line}, is not text in {name} ({fault.reason})", where=str(file), fix=fix
    )


def _guessed(lines: list[bytes], where: Path, what: str, fits: Callable[[str], bool] = lambda name: True) -> str:
    """Return and say the encoding that makes the likeliest text of some lines; refuse them if none fits."""
    from charset_normalizer import from_bytes

    sample = b"".join(lines)[:SAMPLE]
    ranked = []
    for match in from_bytes(sample, cp_isolation=list(_CANDIDATES), preemptive_behaviour=False, enable_fallback=False):
        # Of the encodings that give the same characters, the most frequent.
        same = {match.encoding, *match.could_be_from_charset}.intersection(_CANDIDATES)
        ranked.append((round(match.coherence - match.chaos, 2), -min(map(_CANDIDATES.index, same))))
    name = _CANDIDATES[-max(ranked)[1]] if ranked else None
    if name is None or not fits(name):
        raise UserError(
            f"{what}, and no other encoding clearly fits",
            where=str(where),
            fix="save as UTF-8, or name the encoding with --encoding.",
        )
    example = next(line for line in lines if not _is_utf8(line)).decode(name, "replace").strip()[:60]
    say(f"{where.name}: {what}; read as {name}, as in {example!r}. --encoding names another.")
    return name


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _other(file: Path, head: bytes, fault: _Fault) -> str:
    """Return the encoding of a file that is not UTF-8 and has no mark."""
    if b"\0" in head or fault.reason == _NUL:
        return _wide(file, head)
    lines = _lines_beyond_ascii(file)
    sound = sum(map(_is_utf8, lines))
    if sound >= len(lines) - sound:  # bytes of another encoding hardly ever look like UTF-8
        raise _wrong(file, "UTF-8, which the other lines are", fault, "fix that line, or save the file as UTF-8.")
    what = f"the file is not UTF-8 (byte {fault.byte + 1}, line {fault.line})"
    return _guessed(lines, file, what, lambda name: _find_fault(file, name) is None)


def _wide(file: Path, head: bytes) -> str:
    """Return UTF-16 without a mark, which has a NUL in every other byte of Latin text; all else with NULs is binary."""
    half = max(len(head) // 2, 1)
    high, low = head[0::2].count(0) / half, head[1::2].count(0) / half
    name = "utf-16-le" if low > 0.4 and high < 0.05 else "utf-16-be" if high > 0.4 and low < 0.05 else None
    if name is None or _find_fault(file, name):
        raise _binary(file, "save it as CSV, JSON or Parquet, or name its encoding with --encoding.")
    say(f"{file.name}: read as {name.upper()}, which it looks like; --encoding names another.")
    return name


def _lines_beyond_ascii(file: Path) -> list[bytes]:
    """Return the lines with a byte beyond ASCII, from the top, up to ``SAMPLE`` bytes: those that tell encodings apart."""
    found: list[bytes] = []
    size = 0
    with file.open("rb") as stream:
        while size < SAMPLE and (line := stream.readline(BLOCK)):
            if not line.isascii():
                found.append(line[: SAMPLE - size])
                size += len(line)
    return found


def decode_texts(
    files: list[File], root: Path, encoding: str | None = None
) -> tuple[Callable[[list[File]], pa.Array], Any]:
    """Return what reads the texts of these files, and what its result depends on.

    Args:
        files: all files of a folder or an archive, each of one text.
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
        if size > LARGEST_TEXT:
            raise UserError(
                f"the file has {size / 1e6:.0f} MB; a text may have {LARGEST_TEXT / 1e6:.0f}",
                where=str(file.path),
                fix="split it into the texts that it holds, or remove it.",
            )
        stats.append((str(file.path), file.offset, size, stat.st_mtime_ns))
    fallback = None if codec else _find_fallback(root, files)

    def texts(files: list[File]) -> pa.Array:
        return pa.array([_read(file, codec, fallback) for file in files], pa.string())

    return texts, [stats, codec, fallback]


def _find_fallback(root: Path, files: list[File]) -> str | None:
    """Return the one encoding of the files that are neither UTF-8 nor marked; small files tell it together only."""
    odd, size = 0, 0
    lines: list[bytes] = []
    for file in files:
        content = file.read()
        if _mark_of(content) or _is_utf8(content):
            continue
        _refuse_binary(content, file.path)
        odd += 1
        if size < SAMPLE:
            lines += [line for line in content.splitlines(keepends=True) if not line.isascii()]
            size = sum(map(len, lines))
    if not odd:
        return None
    return _guessed(lines, root, f"{odd} of {len(files)} files are not UTF-8")


def _refuse_binary(content: bytes, file: Path) -> None:
    _refuse_formats(content, file)
    if b"\0" in content:
        raise _binary(file, "remove it, or name the encoding with --encoding.")


def _read(file: File, codec: str | None, fallback: str | None) -> str:
    content = file.read()
    name = codec or _mark_of(content) or ("utf-8" if fallback is None or _is_utf8(content) else fallback)
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
