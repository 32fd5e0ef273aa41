"""Which encoding a file of text is in: its byte order mark, UTF-8, or the one that fits; said where it is not UTF-8.

``charset-normalizer`` ranks encodings by a sample of lines. It names neither byte nor line of what does not fit, and takes one broken
byte in UTF-8 for another encoding: those two are checked here, over the whole file.
"""

from __future__ import annotations

import codecs
import difflib
import encodings.aliases
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.console import say
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

BLOCK = 2**20  # bytes read at once
SAMPLE = 2**16  # bytes that an unknown encoding is told by

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


@dataclass(frozen=True)
class Fault:
    """The first place of a file that an encoding does not explain; ``byte`` from 0, ``line`` from 1."""

    byte: int
    line: int
    reason: str


def find_encoding(file: Path, asked: str | None = None) -> str:
    """Return the name of the codec that reads the whole file without an error, a byte order mark included.

    The file is read once, in blocks. What is not UTF-8 is said.

    Args:
        file: a file of text.
        asked: what ``--encoding`` names; None to find it.

    Raises:
        UserError: an unknown or a wrong encoding, a binary file, or none that fits.
    """
    with file.open("rb") as stream:
        head = stream.read(2**12)
    if asked:
        return _asked(file, asked, head)
    marked = mark_of(head)
    if marked:
        fault = find_fault(file, marked)
        if fault:
            raise _wrong(file, marked, fault, "save the file as UTF-8.")
        if marked != "utf-8-sig":
            say(f"{file.name}: read as {marked.upper()}, which its byte order mark names.")
        return marked
    refuse_formats(head, str(file))
    fault = find_fault(file, "utf-8")
    if fault is None:
        return "utf-8"
    return _wide(file, head) if b"\0" in head or fault.reason == _NUL else _other(file, fault)


def mark_of(head: bytes) -> str | None:
    """Return the codec that a byte order mark names; None without one."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def known_encoding(name: str) -> str:
    """Return the codec of a name, as Python spells it; ``utf-8`` reads a byte order mark as well.

    Raises:
        UserError: there is none.
    """
    try:
        b"a".decode(name, "ignore")  # nothing is not even looked at
        codec = codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        near = difflib.get_close_matches(name.lower(), {*encodings.aliases.aliases, *_CANDIDATES, "utf-8"}, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"there is no encoding {name!r}",
            where="--encoding",
            fix=f"{hint}Give a name that Python knows, e.g. utf-8, cp1252, utf-16, gb18030.",
        ) from error
    return "utf-8-sig" if codec == "utf-8" else codec


_NUL = "a NUL character"


def find_fault(file: Path, encoding: str) -> Fault | None:
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
            except UnicodeError as error:
                start = getattr(error, "start", 0)
                before = (getattr(error, "object", b"") or b"")[:start]
                return Fault(
                    max(done - waiting, 0) + start, line + before.count(b"\n"), getattr(error, "reason", str(error))
                )
            if "\0" in text:
                before_nul = text[: text.index("\0")]
                return Fault(done + max(block.find(b"\0"), 0), line + before_nul.count("\n"), _NUL)
            line += text.count("\n")
            done += len(block)
            if not block:
                return None


def refuse_formats(head: bytes, where: str) -> None:
    """Refuse a file whose first bytes say that it is something else than text."""
    found = next((what for magic, what in _FORMATS if head.startswith(magic)), None)
    if found:
        raise UserError(f"the file is {found}, not text", where=where, fix="save it as CSV, JSON or Parquet.")


def guess(sample: bytes) -> str | None:
    """Return the encoding that makes the likeliest text of some lines; None if no encoding fits."""
    from charset_normalizer import from_bytes

    matches = from_bytes(sample, cp_isolation=list(_CANDIDATES), preemptive_behaviour=False, enable_fallback=False)
    ranked = [(round(match.coherence - match.chaos, 2), *_preferred(match)) for match in matches]
    return max(ranked)[2] if ranked else None


def _preferred(match: CharsetMatch) -> tuple[int, str]:
    """Of the encodings that give the same characters, the most frequent, with its rank (the higher, the more frequent)."""
    same = [name for name in _CANDIDATES if name in {match.encoding, *match.could_be_from_charset}]
    return -_CANDIDATES.index(same[0]), same[0]


def lines_beyond_ascii(file: Path) -> list[bytes]:
    """Lines with a byte beyond ASCII, from the top, up to ``SAMPLE`` bytes: those that tell encodings apart."""
    found: list[bytes] = []
    size = 0
    with file.open("rb") as stream:
        while size < SAMPLE and (line := stream.readline(BLOCK)):
            if not line.isascii():
                found.append(line[: SAMPLE - size])
                size += len(line)
    return found


def is_utf8(line: bytes) -> bool:
    """Return whether bytes decode as UTF-8."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _asked(file: Path, asked: str, head: bytes) -> str:
    name = known_encoding(asked)
    fault = find_fault(file, name)
    if fault is None:
        return name
    if fault.reason == _NUL and "16" not in name and "32" not in name:
        refuse_formats(head, str(file))
    raise _wrong(file, asked, fault, "name the encoding that the file was saved in, or leave --encoding out.")


def _wrong(file: Path, name: str, fault: Fault, fix: str) -> UserError:
    return UserError(
        f"byte {fault.byte + 1}, in line {fault.line}, is not text in {name} ({fault.reason})", where=str(file), fix=fix
    )


def _wide(file: Path, head: bytes) -> str:
    """UTF-16 without a mark, which has a NUL in every other byte of Latin text; everything else with NULs is binary."""
    half = max(len(head) // 2, 1)
    high, low = head[0::2].count(0) / half, head[1::2].count(0) / half
    name = "utf-16-le" if low > 0.4 and high < 0.05 else "utf-16-be" if high > 0.4 and low < 0.05 else None
    if name and find_fault(file, name) is None:
        say(f"{file.name}: read as {name.upper()}, which it looks like; --encoding names another.")
        return name
    raise UserError(
        "the file is binary: it holds NUL bytes, which no text has",
        where=str(file),
        fix="save it as CSV, JSON or Parquet, or name its encoding with --encoding.",
    )


def _other(file: Path, fault: Fault) -> str:
    """The encoding of a file that is not UTF-8."""
    lines = lines_beyond_ascii(file)
    sound = sum(map(is_utf8, lines))
    if sound >= len(lines) - sound:  # bytes of another encoding hardly ever look like UTF-8
        raise _wrong(file, "UTF-8, which the other lines are", fault, "fix that line, or save the file as UTF-8.")
    name = guess(b"".join(lines))
    if name is None or find_fault(file, name):
        raise UserError(
            f"the file is not UTF-8 (byte {fault.byte + 1}, line {fault.line}), and no other encoding clearly fits",
            where=str(file),
            fix="save it as UTF-8, or name its encoding with --encoding.",
        )
    example = next(line for line in lines if not is_utf8(line)).decode(name, "replace").strip()[:60]
    say(f"{file.name}: not UTF-8; read as {name}, in which line {fault.line} is {example!r}. --encoding names another.")
    return name
