"""Folders by class and by split: which of their files are the user's, of images and of texts alike."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from hf_finetune.data.rows.labels import natural_key
from hf_finetune.errors import UserError

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def split_folders(root: Path, endings: frozenset[str]) -> dict[str, Path]:
    """The split folders of a folder; empty where the classes stand at its top.

    Args:
        root: the folder.
        endings: of the files that are rows, in small letters and with their dots.
    """
    # A class may be called "train": a split holds folders of files, not files.
    by_name = {
        path.name.lower(): path
        for path in folders_in(root)
        if any(has_files(inner, endings, root) for inner in folders_in(path))
    }
    found = {split: by_name[name] for split, names in SPLIT_FOLDERS.items() for name in names if name in by_name}
    return found if "train" in found else {}


def files_by_class(root: Path, endings: frozenset[str], within: Path | None = None) -> dict[str, list[Path]]:
    """The files of each class that has some, at any depth below its folder; classes and files in natural order.

    Args:
        root: the folder of the classes.
        endings: of the files that are rows.
        within: the folder that symbolic links may not lead out of (default: ``root``).

    Raises:
        UserError: no such folder, or a link that leads out.
    """
    if not root.is_dir():
        raise UserError("the folder does not exist", where=str(root), fix="check the path.")
    files = {folder.name: files_below(folder, endings, within or root) for folder in folders_in(root)}
    return {name: files[name] for name in sorted(files, key=natural_key) if files[name]}


def files_below(folder: Path, endings: frozenset[str], within: Path | None = None) -> list[Path]:
    """All files below a folder, in natural order; hidden files and folders are passed over.

    Args:
        folder: where to look.
        endings: of the files that are rows.
        within: the folder that symbolic links may not lead out of (default: ``folder``).

    Raises:
        UserError: a symbolic link leads out.
    """
    files = _walk(folder, os.path.realpath(within or folder), endings)
    return sorted(files, key=lambda path: natural_key(path.relative_to(folder).as_posix()))


def has_files(folder: Path, endings: frozenset[str], within: Path | None = None) -> bool:
    """Whether such a file stands anywhere below a folder; stops at the first."""
    return next(_walk(folder, os.path.realpath(within or folder), endings), None) is not None


def folders_in(root: Path) -> list[Path]:
    """The sub-folders of a folder but the hidden ones; none where there is no such folder."""
    if not root.is_dir():
        return []
    return [path for path in (root / entry.name for entry in _entries(root)) if path.is_dir()]


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is the system's and not the user's."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def _walk(folder: Path, root: str, endings: frozenset[str]) -> Iterator[Path]:
    """Files with one of these endings below a folder. Each folder is entered once, however many links lead to it."""
    _check_link(folder, root)
    folders, links, entered = [folder], deque[Path](), set()
    while folders or links:
        current = folders.pop() if folders else links.popleft()  # links last: a file has its own path if it can
        real = os.path.realpath(current)
        if real in entered:
            continue
        entered.add(real)
        for entry in _entries(current):
            path, link = current / entry.name, entry.is_symlink()
            is_folder = path.is_dir() if link else entry.is_dir()
            if not is_folder and path.suffix.lower() not in endings:
                continue
            if link:
                _check_link(path, root)
            if is_folder:
                (links if link else folders).append(path)
            # A link that leads nowhere is a file that cannot be read, and who reads it says so.
            elif path.is_file() or not path.exists() if link else entry.is_file():
                yield path


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise UserError(
            f"the folder cannot be read ({error.strerror})",
            where=str(folder),
            fix="give yourself the right to read it.",
        ) from error


def _check_link(path: Path, root: str) -> None:
    """Refuse what leads out of the folder that was named: a data set should not pull in other files of the machine."""
    real = os.path.realpath(path)
    if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
        raise UserError(
            f"the symbolic link leads out of the folder {root}",
            where=str(path),
            fix="copy the files to where the link stands, or name a folder that holds both.",
        )
