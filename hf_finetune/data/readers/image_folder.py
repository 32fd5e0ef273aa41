"""Folders of pictures: by class, by split, and which of their files are pictures of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.data.images.decode import REFUSED_FORMATS, decode_fault
from hf_finetune.data.readers.class_folders import files_below, files_by_class, has_files, split_folders
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, Features


def find_split_folders(root: Path) -> dict[str, Path]:
    """The split folders of an image folder; empty where the classes stand at its top."""
    return split_folders(root, picture_endings())


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

    pictures = files_by_class(root, picture_endings(), within)
    if not pictures:
        raise UserError(
            "no pictures in class folders were found",
            where=str(root),
            fix="put the pictures of each class into a sub-folder named after it: FOLDER/CLASS/picture.jpg.",
        )
    rows = [(file, index) for index, files in enumerate(pictures.values()) for file in files]
    return Dataset.from_dict(
        {
            "id": [file.relative_to(root).as_posix() for file, _ in rows],
            "image": [{"bytes": None, "path": str(file)} for file, _ in rows],
            "label": [index for _, index in rows],
        },
        features=picture_features(label=ClassLabel(names=list(pictures))),
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
    return files_below(folder, picture_endings(), within)


def has_pictures(folder: Path, within: Path | None = None) -> bool:
    """Whether a picture stands anywhere below a folder; stops at the first."""
    return has_files(folder, picture_endings(), within)


def picture_endings() -> frozenset[str]:
    """The endings, in small letters and with their dots, of the formats that are read."""
    from PIL import Image

    kinds = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in kinds if kind in Image.OPEN and kind not in REFUSED_FORMATS)
