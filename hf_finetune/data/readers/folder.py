"""Files in folders by class: which of them are the user's, and their rows. A ``Cell`` says what the files hold.

The ``imagefolder`` of ``datasets`` is not used: it puts class 10 before class 2, and has no counterpart for texts.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Value

from hf_finetune.data.readers.cell import Cell
from hf_finetune.data.readers.source import File, Source
from hf_finetune.data.readers.split_names import STANDARD, find_splits
from hf_finetune.data.rows.labels import natural_key
from hf_finetune.data.splits.splits import SPLIT_SEED
from hf_finetune.errors import UserError


def open_classes(
    root: Path, cell: Cell, encoding: str | None = None, within: Path | None = None, *, mixed: bool = False
) -> Source:
    """Return the files of a folder with one sub-folder a class; columns ``id``, the cell's, ``label`` (ClassLabel).

    Files may be at any depth below the folder of their class. Classes and files are in natural order, hidden files are
    ignored, and the id is the path below the folder. Paths are held in memory, texts are not.

    Args:
        root: the folder of the classes.
        cell: what the files hold.
        encoding: of texts; None to find it.
        within: the folder that symbolic links may not lead out of (default: ``root``).
        mixed: in an order that is random but always the same, for streams, which mix no more than a block.

    Raises:
        UserError: no such folder, no class folder with such a file in it, a link that leads out of the folder, or a text
            that cannot be read.
    """
    if not root.is_dir():
        raise UserError("the folder does not exist", where=str(root), fix="check the path.")
    found = {folder.name: files_below(folder, cell.endings(), within or root) for folder in folders_in(root)}
    by_class = {name: found[name] for name in sorted(found, key=natural_key) if found[name]}
    if not by_class:
        raise UserError(
            f"no {cell.called} in class folders were found",
            where=str(root),
            fix=f"put the files of each class into a sub-folder named after it: FOLDER/CLASS/{cell.example}.",
        )
    files = [path for paths in by_class.values() for path in paths]
    labels = np.repeat(np.arange(len(by_class)), [len(paths) for paths in by_class.values()])
    if mixed:
        order = np.random.default_rng(SPLIT_SEED).permutation(len(files))
        files, labels = [files[row] for row in order], labels[order]
    return _source(root, files, cell, encoding, list(by_class), labels)


def open_files(root: Path, cell: Cell) -> Dataset:
    """Return all such files of a folder, or one file, without labels; columns ``id`` and the cell's.

    Raises:
        UserError: nothing there, no such files, or a link that leads out of the folder.
    """
    if root.is_file():
        return _source(root.parent, [root], cell).keep()
    if not root.is_dir():
        raise UserError("there is no such file or folder", where=str(root), fix="check the path.")
    files = files_below(root, cell.endings())
    if not files:
        raise UserError(f"the folder holds no {cell.called}", where=str(root), fix=f"name a folder of {cell.called}.")
    return _source(root, files, cell).keep()


def _source(
    root: Path,
    files: list[Path],
    cell: Cell,
    encoding: str | None = None,
    classes: list[str] | None = None,
    labels: np.ndarray | None = None,
) -> Source:
    """Return files as rows: their path below the folder, their cell and, where there are classes, their label."""
    values, how = cell.open_files([File(path) for path in files], root, encoding)
    features = {"id": Value("string"), cell.column: cell.feature}
    if classes:
        features["label"] = ClassLabel(names=classes)
    schema = Features(features).arrow_schema

    def read(columns: list[str], size: int) -> Iterator[pa.Table]:
        for start in range(0, len(files), size):
            some = files[start : start + size]
            found: dict[str, Any] = {}
            if "id" in columns:
                found["id"] = [path.relative_to(root).as_posix() for path in some]
            if "label" in columns and labels is not None:
                found["label"] = labels[start : start + size]
            if cell.column in columns:
                found[cell.column] = values([File(path) for path in some])
            yield pa.table({name: found[name] for name in columns}, pa.schema([schema.field(name) for name in columns]))

    return Source(str(root), lambda: schema, read, None if cell.stays_a_file else [root], [how, classes])


def split_folders(root: Path, endings: frozenset[str]) -> dict[str, Path]:
    """Return the split folders of a folder, which hold files of these endings; empty where the classes stand at its top.

    Raises:
        UserError: two folders mean the same split.
    """
    # A class may be called "train": a split holds folders of files, not files.
    holding = [
        path.name for path in folders_in(root) if any(has_files(inner, endings, root) for inner in folders_in(path))
    ]
    has_train = any(STANDARD.get(name.lower()) == "train" for name in holding)
    return {split: root / name for split, name in find_splits(holding, str(root)).items()} if has_train else {}


def files_below(folder: Path, endings: frozenset[str], within: Path | None = None) -> list[Path]:
    """Return all files of these endings below a folder, in natural order; hidden files and folders are passed over.

    Raises:
        UserError: a symbolic link leads out of ``within`` (default: the folder).
    """
    files = _walk(folder, os.path.realpath(within or folder), endings)
    return sorted(files, key=lambda path: natural_key(path.relative_to(folder).as_posix()))


def has_files(folder: Path, endings: frozenset[str], within: Path | None = None) -> bool:
    """Return whether such a file stands anywhere below a folder; stops at the first."""
    return next(_walk(folder, os.path.realpath(within or folder), endings), None) is not None


def folders_in(root: Path) -> list[Path]:
    """Return the sub-folders of a folder but the hidden ones; none where there is no such folder."""
    if not root.is_dir():
        return []
    return [path for path in (root / entry.name for entry in _entries(root)) if path.is_dir()]


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is the system's and not the user's."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def _walk(folder: Path, root: str, endings: frozenset[str]) -> Iterator[Path]:
    """Yield files with one of these endings below a folder. Each folder is entered once, however many links lead to it."""
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
    if not is_below(os.path.realpath(path), root):
        raise UserError(
            f"the symbolic link leads out of the folder {root}",
            where=str(path),
            fix="copy the files to where the link stands, or name a folder that holds both.",
        )


def is_below(real: str, root: str) -> bool:
    """Return whether a resolved path is a resolved folder or is below it."""
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)
