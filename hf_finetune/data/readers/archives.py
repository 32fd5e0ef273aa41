"""Archives: unpacked once into the cache folder and nowhere else, whatever paths they contain; the members of a tar.

``tarfile.data_filter`` is used, and is not enough: it bounds neither number nor size of what comes out, and follows no links.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from filelock import FileLock

from hf_finetune.console import say
from hf_finetune.data.readers.folder import is_hidden
from hf_finetune.data.readers.source import File
from hf_finetune.errors import UserError, first_line
from hf_finetune.files import cache_dir

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# Tables of metadata, and the parts of WebDataset samples. Everything else in an archive is passed over.
KEPT_ENDINGS = frozenset({".csv", ".tsv", ".json", ".jsonl", ".parquet", ".cls", ".txt"})

MAX_MEMBERS = 5_000_000
MAX_RATIO = 200  # unpacked to packed; photographs stay near 1, drawings below 100
ALWAYS_ALLOWED = 100_000_000  # bytes, so that a small archive of plain drawings is not taken for a bomb
DISK_SHARE = 0.9  # of what is free
_CHUNK = 1 << 20
_LONGEST_HEADER = 1 << 24
_DECOMPRESSED: dict[str, Callable[..., Any]] = {
    **dict.fromkeys((".gz", ".tgz"), gzip.open),
    **dict.fromkeys((".bz2", ".tbz2"), bz2.open),
    **dict.fromkeys((".xz", ".txz"), lzma.open),
}
_FAULTS = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError)


def is_archive(path: str | Path) -> bool:
    """Return whether a path ends like an archive that is read."""
    return str(path).lower().endswith(ENDINGS)


def unpack(archive: Path, endings: frozenset[str]) -> Path:
    """Return the folder in the cache with an archive's files of these endings, its tables and its labels.

    It is unpacked if it is not there yet; the folder's name says which file, of which size and of which time it comes from.
    Several processes may ask at once.

    Raises:
        UserError: no such file, no such archive, a member that leads out of it, or more than the bounds allow.
    """
    refuse_missing(archive)
    status = archive.stat()
    known = f"{archive.resolve()} {status.st_size} {status.st_mtime_ns} {sorted(endings - KEPT_ENDINGS)}"
    folder = cache_dir() / "archives" / hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            return folder
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir()
        try:
            free = int(shutil.disk_usage(partial).free * DISK_SHARE)
            target = _Target(archive, partial, max(ALWAYS_ALLOWED, MAX_RATIO * status.st_size), free, endings)
            with _reading(archive):
                (_unpack_zip if archive.suffix.lower() == ".zip" else _unpack_tar)(target)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    say(f"{archive.name}: {target.files} files unpacked into {folder}.")
    return folder


def refuse_missing(archive: Path) -> None:
    """Refuse an archive that is not there."""
    if not archive.is_file():
        raise UserError("the archive does not exist", where=str(archive), fix="check the path.")


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn the errors of a broken archive into a ``UserError``."""
    try:
        yield
    except (*_FAULTS, zipfile.BadZipFile, tarfile.TarError) as error:
        raise UserError(
            f"the archive cannot be unpacked ({first_line(error) or type(error).__name__})",
            where=str(archive),
            fix="pack it again, or unpack it yourself and name the folder.",
        ) from error


@dataclass
class _Target:
    """Where an archive goes, what it has taken, and how much it may."""

    archive: Path
    folder: Path
    bytes_allowed: int
    bytes_free: int
    endings: frozenset[str]
    members: int = 0
    bytes: int = 0
    files: int = 0

    def place(self, name: str) -> Path | None:
        """Count a member, and return where it goes; None if it is passed over."""
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise self.refused(f"it has more than {MAX_MEMBERS:,} members")
        parts = safe_parts(name)
        if parts is None:
            raise self.refused(f"the member {name!r} leads out of it")
        if not parts or any(is_hidden(part) for part in parts):
            return None
        ending = PurePosixPath(parts[-1]).suffix.lower()
        return self.folder.joinpath(*parts) if ending in self.endings or ending in KEPT_ENDINGS else None

    def write(self, path: Path, source: Any) -> None:
        """Write one file, counting what really comes, not what a header says."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while chunk := source.read(_CHUNK):
                self.bytes += len(chunk)
                self.check_stream(self.bytes)
                if self.bytes > self.bytes_free:
                    raise self.refused(f"it needs more than the {self.bytes_free:,} bytes that are free for it")
                file.write(chunk)
        self.files += 1

    def check_stream(self, count: int) -> None:
        if count > self.bytes_allowed:
            raise self.refused(f"it unpacks to more than {self.bytes_allowed:,} bytes, which its size does not warrant")

    def refused(self, what: str) -> UserError:
        return UserError(
            what, where=str(self.archive), fix="if you trust it, unpack it yourself and name the folder instead."
        )


def safe_parts(name: str) -> list[str] | None:
    """Return the folders and the file that a member's name means; None if it leads out of the archive's folder.

    A backslash separates folders too: it does where some archives were written, and would where they might be read.
    """
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or "\0" in name:
        return None
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return None if ".." in parts else parts


def _unpack_zip(target: _Target) -> None:
    with zipfile.ZipFile(target.archive) as content:
        for member in content.infolist():
            path = target.place(_zip_name(member))
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise target.refused(f"the member {member.filename!r} is a link or a device, not a file")
            if path is None or member.is_dir():
                continue
            if member.flag_bits & 1:
                raise target.refused(f"the member {member.filename!r} is encrypted")
            with content.open(member) as source:
                target.write(path, source)


def _zip_name(member: zipfile.ZipInfo) -> str:
    """Return a member's name; older tools write UTF-8 without saying so, and ``zipfile`` takes it for an old DOS alphabet."""
    if member.flag_bits & 0x800:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


Link = tuple[Path, Path, str]  # where a link is, the file that it means, and its name in the archive


def _unpack_tar(target: _Target) -> None:
    """Write files as the stream comes; links become copies of files of the same archive, at the end."""
    links: list[Link] = []
    with _open_tar(target) as content:
        for member, path in _tar_files(content, target, links):
            tarfile.data_filter(member, str(target.folder))
            target.write(path, content.extractfile(member))
    for path, source in _resolved(links, target, Path.is_file):
        with source.open("rb") as file:
            target.write(path, file)


def _tar_files(content: Any, target: _Target, links: list[Link]) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    """Yield the files of a tar that are not passed over; ``links`` gets its links."""
    while (member := content.next()) is not None:
        content.members = []  # of a million, each would be kept
        path = target.place(member.name)
        if member.issym() or member.islnk():
            source = _link_source(member, target)
            links += [(path, source, member.name)] if path else []
        elif not (member.isfile() or member.isdir()):
            raise target.refused(f"the member {member.name!r} is a device, not a file")
        elif path is not None and member.isfile():
            yield member, path


def _resolved(links: list[Link], target: _Target, exists: Callable[[Path], bool]) -> Iterator[tuple[Path, Path]]:
    """Yield each link with its file, which is there by then: a link may lead to a link."""
    while links:
        ready = [link for link in links if exists(link[1])]
        if not ready:
            raise target.refused(f"the member {links[0][2]!r} links to a file that the archive does not hold")
        links = [link for link in links if not exists(link[1])]
        yield from ((path, source) for path, source, _ in ready)


def _link_source(member: tarfile.TarInfo, target: _Target) -> Path:
    """Return the unpacked file that a link means. A hard link names it from the top, a symbolic one from its own folder."""
    start = PurePosixPath() if member.islnk() else PurePosixPath(member.name).parent
    path = os.path.normpath(start / member.linkname)
    parts = None if member.linkname.startswith(("/", "\\")) else safe_parts(path)
    if parts is None:
        raise target.refused(f"the member {member.name!r} links to {member.linkname!r}, which leads out of it")
    return target.folder.joinpath(*parts)


@contextmanager
def _open_tar(target: _Target) -> Iterator[tarfile.TarFile]:
    with _DECOMPRESSED.get(target.archive.suffix.lower(), open)(target.archive, "rb") as stream:
        bounded: Any = _Bounded(stream, target.check_stream)
        with tarfile.open(fileobj=bounded, mode="r:") as content:
            yield content


def tar_members(archive: Path, endings: frozenset[str]) -> dict[str, File]:
    """Return the files of a tar that is not compressed, by name, without unpacking it; links are their files.

    Raises:
        UserError: as :func:`unpack`.
    """
    refuse_missing(archive)
    size = archive.stat().st_size
    target = _Target(archive, Path(), size + _LONGEST_HEADER, size, endings)
    found: dict[Path, File] = {}
    links: list[Link] = []
    with _reading(archive), _open_tar(target) as content:
        for member, path in _tar_files(content, target, links):
            if member.issparse():
                raise target.refused(f"the member {member.name!r} is a sparse file, not a plain one")
            if member.offset_data + member.size > size:
                raise tarfile.ReadError("unexpected end of data")
            found[path] = File(archive, member.offset_data, member.size)
    for path, source in _resolved(links, target, found.__contains__):
        found[path] = found[source]
    return {path.as_posix(): file for path, file in found.items()}


class _Bounded:
    """A stream that is read in small pieces and only up to a bound, which ``check`` refuses to pass."""

    def __init__(self, stream: IO[bytes], check: Callable[[int], None]) -> None:
        self.stream, self.check = stream, check
        self.tell = stream.tell

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= _LONGEST_HEADER:
            raise ValueError(f"a header claims {count:,} bytes")
        self.check(self.stream.tell() + count)
        return self.stream.read(count)

    def seek(self, place: int, whence: int = 0) -> int:
        self.check(place)
        return self.stream.seek(place, whence)
