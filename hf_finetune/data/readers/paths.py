"""Where the files are that a table of images names: below their folder, and nowhere else."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

OUTSIDE = "\0"
"""In place of a path that leads out of its folder; no file is called so."""

THREADS = 16
_ELSEWHERE = re.compile(r"[a-z]:[\\/]|[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # a drive of Windows, or an address


def find_files(paths: list[str | None], root: Path) -> list[str | None]:
    """Return the full path of each file; None where it is missing, ``OUTSIDE`` where the path leads out of the folder.

    A path is tried as it is written, with ``\\`` for ``/``, and with its letters composed and decomposed (Unicode NFC,
    NFD), since tables come from other systems than images do.

    Args:
        paths: of the files; None in a row without one.
        root: the folder that paths start from and do not leave.
    """
    top, real = str(Path(root).absolute()).rstrip("/"), os.path.realpath(root)

    @cache
    def is_inside(folder: str) -> bool:
        return is_below(os.path.realpath(folder or "/"), real)

    def find(part: list[str | None]) -> list[str | None]:
        return [_find(path, top, real, is_inside) if path else None for path in part]

    size = max(1, -(-len(paths) // THREADS))
    with ThreadPoolExecutor(THREADS) as pool:  # on a network drive each file is a wait
        parts = pool.map(find, [paths[start : start + size] for start in range(0, len(paths), size)])
        return [file for part in parts for file in part]


def _find(path: str, top: str, real: str, is_inside: Callable[[str], bool]) -> str | None:
    if ":" in path and _ELSEWHERE.match(path):
        return OUTSIDE
    found = (_look(spelling, top, real, is_inside) for spelling in _spellings(path) if spelling)
    return next((file for file in found if file is not None), None)


def _spellings(path: str) -> Iterator[str]:
    yield path
    names = [path.strip(), path.strip().replace("\\", "/")]
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD") for name in names]
    yield from {*names, *forms} - {path}


def _look(path: str, top: str, real: str, is_inside: Callable[[str], bool]) -> str | None:
    """Find one spelling. ``..`` is left to the system: behind a link it leads to the folder above the link's target."""
    if "\0" in path:
        return None
    folder, _, name = path.rpartition("/")
    if not path.startswith("/"):
        folder = f"{top}/{folder}" if folder else top
    if name == ".." or not is_inside(folder):
        return OUTSIDE
    full = f"{folder}/{name}"
    kind = _kind(full)
    if kind == stat.S_IFLNK:
        target = os.path.realpath(full)
        if not is_below(target, real):
            return OUTSIDE
        kind = _kind(target)
    return full if kind == stat.S_IFREG else None


def _kind(path: str) -> int:
    """Return the type of what a path names, as ``stat`` spells it; 0 where this user can see nothing."""
    try:
        return stat.S_IFMT(Path(path).lstat().st_mode)
    except (OSError, ValueError):  # a table may hold any text
        return 0


def is_below(real: str, root: str) -> bool:
    """Return whether a resolved path is a resolved folder or is below it."""
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)
