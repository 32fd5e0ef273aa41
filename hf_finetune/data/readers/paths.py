"""Where the files are that a table of images names: below their folder, and nowhere else."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

OUTSIDE = "\0"
"""In place of a path that leads out of its folder; no file is called so."""

_ELSEWHERE = re.compile(r"[a-z]:[\\/]|[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # a drive of Windows, or an address
# From this number of files in one folder on, listing it is faster than asking for each.
_LISTED_FROM = 64


class Finder:
    """Finds the files of a table, a block of rows at a time.

    A path is tried as it is written, with ``\\`` for ``/``, and with its letters composed and decomposed (Unicode NFC,
    NFD), since tables come from other systems than images do. Folders are listed once: a million paths take seconds.

    Args:
        root: the folder that paths start from and do not leave.
        lists: whether to hold the names of the files of large folders, which is quicker than asking for each.
    """

    def __init__(self, root: Path, *, lists: bool = True) -> None:
        self.top, self.real = str(Path(root).absolute()).rstrip("/"), os.path.realpath(root)
        self.lists = lists
        self.folders: dict[str, _Folder] = {}

    def find(self, paths: list[str | None]) -> list[str | None]:
        """Return the full path of every file; None where it is missing, ``OUTSIDE`` where the path leads out of the folder."""
        split = [_split(path, self.top) if path else None for path in paths]
        wanted = Counter(found[0] for found in split if found)
        folders = self.folders if self.lists else {}
        with ThreadPoolExecutor(max_workers=16) as pool:  # on a network drive each folder is a wait
            new = [folder for folder in wanted if folder not in folders]
            folders.update(zip(new, pool.map(lambda folder: _Folder(folder, self.real), new), strict=True))
            if self.lists:
                list(pool.map(lambda folder: folders[folder].ask(wanted[folder]), wanted))
        return [self._find(path, place, folders) if path else None for path, place in zip(paths, split, strict=True)]

    def _find(self, path: str, place: tuple[str, str] | None, folders: dict[str, _Folder]) -> str | None:
        if ":" in path and _ELSEWHERE.match(path):
            return OUTSIDE
        if place is None:
            return None
        return folders[place[0]].find(place[1]) or _find_otherwise(path, self.top, self.real)


class _Folder:
    """One folder, and those of its files that need no second look."""

    def __init__(self, path: str, root: str) -> None:
        self.path, self.root = path, root
        self.asked, self.listed = 0, False
        self.inside = is_below(os.path.realpath(path or "/"), root)
        self.plain: set[str] = set()

    def ask(self, count: int) -> None:
        """List the folder once enough of its files have been asked for."""
        self.asked += count
        if self.listed or not self.inside or self.asked < _LISTED_FROM:
            return
        self.listed = True
        folder = self.path or "/"
        if _kind(os.path.realpath(folder)) == stat.S_IFDIR and os.access(folder, os.R_OK):
            with os.scandir(folder) as entries:
                self.plain = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}

    def find(self, name: str) -> str | None:
        full = f"{self.path}/{name}"
        if name in self.plain:
            return full
        if not self.inside or name == "..":
            return OUTSIDE
        kind = _kind(full)
        if kind == stat.S_IFLNK:
            if not is_below(os.path.realpath(full), self.root):
                return OUTSIDE
            kind = _kind(os.path.realpath(full))
        return full if kind == stat.S_IFREG else None


def _kind(path: str) -> int:
    """The type of what a path names, as ``stat`` spells it; 0 where this user can see nothing (a table may hold any text)."""
    try:
        return stat.S_IFMT(Path(path).lstat().st_mode)
    except (OSError, ValueError):
        return 0


def is_below(real: str, root: str) -> bool:
    """Whether a resolved path is a resolved folder or is below it."""
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)


def _split(path: str, top: str) -> tuple[str, str] | None:
    """Folder and name. ``..`` is left to the system: behind a link it leads to the folder above the link's target."""
    if "\0" in path:
        return None
    folder, _, name = path.rpartition("/")
    if path.startswith("/"):
        return folder, name
    return f"{top}/{folder}" if folder else top, name


def _find_otherwise(path: str, top: str, real: str) -> str | None:
    found = [path.strip(), path.strip().replace("\\", "/")]
    if not path.isascii():
        found += [unicodedata.normalize(form, name) for form in ("NFC", "NFD") for name in found[:2]]
    for name in dict.fromkeys(found):
        place = None if name in ("", path) else _split(name, top)
        full = _Folder(place[0], real).find(place[1]) if place else None
        if full is not None:
            return full
    return None
