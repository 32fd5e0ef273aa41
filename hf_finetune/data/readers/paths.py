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
# From so many files of one folder on, listing it is quicker than asking for each.
_LISTED_FROM = 64


def find_files(paths: list[str | None], root: Path) -> list[str | None]:
    """Full path of every file below a folder: None where there is none, ``OUTSIDE`` where the path leads out of it.

    A path is tried as it is written, with ``\\`` for ``/``, and with its letters composed and decomposed (Unicode NFC,
    NFD), since tables come from other systems than images do. Folders are listed once: a million paths take seconds.
    """
    top, real = str(Path(root).absolute()).rstrip("/"), os.path.realpath(root)
    split = [_split(path, top) if path else None for path in paths]
    wanted = Counter(found[0] for found in split if found)
    with ThreadPoolExecutor(max_workers=16) as pool:  # on a network drive each folder is a wait
        opened = pool.map(lambda folder: _Folder(folder, real, wanted[folder]), wanted)
        folders = dict(zip(wanted, opened, strict=True))
    found: list[str | None] = []
    for path, place in zip(paths, split, strict=True):
        if path and ":" in path and _ELSEWHERE.match(path):
            found.append(OUTSIDE)
        elif place is None:
            found.append(None)
        elif (full := folders[place[0]].find(place[1])) is not None:
            found.append(full)
        else:
            found.append(_find_otherwise(path or "", top, real))
    return found


class _Folder:
    """One folder, and those of its files that need no second look."""

    def __init__(self, path: str, root: str, asked: int) -> None:
        self.path, self.root = path, root
        folder = path or "/"
        self.inside = is_below(os.path.realpath(folder), root)
        self.plain: set[str] = set()
        readable = (
            asked >= _LISTED_FROM and _kind(os.path.realpath(folder)) == stat.S_IFDIR and os.access(folder, os.R_OK)
        )
        if self.inside and readable:
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
    """What stands at a path, as ``stat`` names it; 0 for nothing that this user can see (any name may be in a table)."""
    try:
        return stat.S_IFMT(Path(path).lstat().st_mode)
    except (OSError, ValueError):
        return 0


def is_below(real: str, root: str) -> bool:
    """Whether a resolved path is a resolved folder or stands below it."""
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
        full = _Folder(place[0], real, 1).find(place[1]) if place else None
        if full is not None:
            return full
    return None
