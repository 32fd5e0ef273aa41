"""Folders of pictures: by class, by split, and which of their files are pictures of the user's."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.data.decode import REFUSED_FORMATS, decode_fault
from hf_finetune.data.labels import natural_key
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, Features

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def find_split_folders(root: Path) -> dict[str, Path]:
    """The split folders of an image folder; empty where the classes stand at its top."""
    # A class may be called "train": a split holds folders of pictures, not pictures.
    by_name = {
        path.name.lower(): path
        for path in folders_in(root)
        if any(has_pictures(inner, within=root) for inner in folders_in(path))
    }
    found = {split: by_name[name] for split, names in SPLIT_FOLDERS.items() for name in names if name in by_name}
    return found if "train" in found else {}


def read_image_folder(root: Path, within: Path | None = None) -> Dataset:
    """One sub-folder a class, pictures at any depth below it; columns ``id``, ``image``, ``label`` (ClassLabel).

    Classes stand in natural order, hidden files and files that are no pictures are passed over.

    Args:
        root: the folder of the classes.
        within: the folder that symbolic links may not lead out of (default: ``root``).

    Raises:
        UserError: no such folder, no class folder with a picture in it, or a link that leads out.
    """
    from datasets import ClassLabel, Dataset

    if not root.is_dir():
        raise UserError("the folder does not exist", where=str(root), fix="check the path.")
    pictures = {folder.name: list_pictures(folder, within or root) for folder in folders_in(root)}
    classes = sorted((name for name, files in pictures.items() if files), key=natural_key)
    if not classes:
        raise UserError(
            "no pictures in class folders were found",
            where=str(root),
            fix="put the pictures of each class into a sub-folder named after it: FOLDER/CLASS/picture.jpg.",
        )
    rows = [(file, index) for index, name in enumerate(classes) for file in pictures[name]]
    return Dataset.from_dict(
        {
            "id": [file.relative_to(root).as_posix() for file, _ in rows],
            "image": [{"bytes": None, "path": str(file)} for file, _ in rows],
            "label": [index for _, index in rows],
        },
        features=picture_features(label=ClassLabel(names=classes)),
    )


def read_pictures(root: Path) -> Dataset:
    """All pictures of a folder, or one picture, without labels; columns ``id`` (the path below the folder) and ``image``.

    Raises:
        UserError: nothing there, no pictures, or a link that leads out of the folder.
    """
    from datasets import Dataset

    if not root.is_dir() and not root.is_file():
        raise UserError("there is no such file or folder", where=str(root), fix="check the path.")
    files = list_pictures(root) if root.is_dir() else [root]
    if not files:
        raise UserError("the folder holds no pictures", where=str(root), fix="name a folder of pictures.")
    top = root if root.is_dir() else root.parent
    return Dataset.from_dict(
        {
            "id": [file.relative_to(top).as_posix() for file in files],
            "image": [{"bytes": None, "path": str(file)} for file in files],
        },
        features=picture_features(),
    )


def picture_features(**more: object) -> Features:
    """The columns of undecoded pictures, and others."""
    from datasets import Features, Image, Value

    return Features({"id": Value("string"), "image": Image(decode=False), **more})


def unreadable_images(split: Dataset, indices: list[int]) -> list[tuple[int, str]]:
    """Those of the rows that cannot be decoded, with what Pillow says. Decoding runs in threads, at low resolution.

    Raises nothing for a broken picture: that is its answer.
    """
    from concurrent.futures import ThreadPoolExecutor

    def reason(index: int) -> str | None:
        return decode_fault(split[index]["image"])

    with ThreadPoolExecutor(max_workers=4) as pool:
        return [(i, fault) for i, fault in zip(indices, pool.map(reason, indices), strict=True) if fault]


def list_pictures(folder: Path, within: Path | None = None) -> list[Path]:
    """All pictures below a folder, in natural order; hidden files and folders are passed over.

    Args:
        folder: where to look.
        within: the folder that symbolic links may not lead out of (default: ``folder``).

    Raises:
        UserError: a symbolic link leads out.
    """
    files = _walk(folder, os.path.realpath(within or folder), picture_endings())
    return sorted(files, key=lambda path: natural_key(path.relative_to(folder).as_posix()))


def has_pictures(folder: Path, within: Path | None = None) -> bool:
    """Whether a picture stands anywhere below a folder; stops at the first."""
    return next(_walk(folder, os.path.realpath(within or folder), picture_endings()), None) is not None


def picture_endings() -> frozenset[str]:
    """The endings, in small letters and with their dots, of the formats that are read."""
    from PIL import Image

    kinds = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in kinds if kind in Image.OPEN and kind not in REFUSED_FORMATS)


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
        current = folders.pop() if folders else links.popleft()  # links last: a picture has its own path if it can
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
            # A link that leads nowhere is a picture that cannot be read, and the audit says so.
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
            fix="copy the pictures to where the link stands, or name a folder that holds both.",
        )
