"""Folders of images: by class, by split, and which of their files are images of the user's."""

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
    return split_folders(root, image_endings())


def read_image_folder(root: Path, within: Path | None = None) -> Dataset:
    """One sub-folder a class, images at any depth below it; columns ``id``, ``image``, ``label`` (ClassLabel).

    Classes stand in natural order, hidden files and files that are no images are passed over.

    Args:
        root: the folder of the classes.
        within: the folder that symbolic links may not lead out of (default: ``root``).

    Raises:
        UserError: no such folder, no class folder with an image in it, or a link that leads out.
    """
    from datasets import ClassLabel, Dataset

    images = files_by_class(root, image_endings(), within)
    if not images:
        raise UserError(
            "no images in class folders were found",
            where=str(root),
            fix="put the images of each class into a sub-folder named after it: FOLDER/CLASS/image.jpg.",
        )
    rows = [(file, index) for index, files in enumerate(images.values()) for file in files]
    return Dataset.from_dict(
        {
            "id": [file.relative_to(root).as_posix() for file, _ in rows],
            "image": [{"bytes": None, "path": str(file)} for file, _ in rows],
            "label": [index for _, index in rows],
        },
        features=image_features(label=ClassLabel(names=list(images))),
    )


def read_images(root: Path) -> Dataset:
    """All images of a folder, or one image, without labels; columns ``id`` (the path below the folder) and ``image``.

    Raises:
        UserError: nothing there, no images, or a link that leads out of the folder.
    """
    from datasets import Dataset

    if not root.is_dir() and not root.is_file():
        raise UserError("there is no such file or folder", where=str(root), fix="check the path.")
    files = list_images(root) if root.is_dir() else [root]
    if not files:
        raise UserError("the folder holds no images", where=str(root), fix="name a folder of images.")
    top = root if root.is_dir() else root.parent
    return Dataset.from_dict(
        {
            "id": [file.relative_to(top).as_posix() for file in files],
            "image": [{"bytes": None, "path": str(file)} for file in files],
        },
        features=image_features(),
    )


def image_features(**more: object) -> Features:
    """The columns of undecoded images, and others."""
    from datasets import Features, Image, Value

    return Features({"id": Value("string"), "image": Image(decode=False), **more})


def unreadable_images(split: Dataset, indices: list[int]) -> list[tuple[int, str]]:
    """Those of the rows that cannot be decoded, with what Pillow says. Decoding runs in threads, at low resolution.

    Raises nothing for a broken image: that is its answer.
    """
    from concurrent.futures import ThreadPoolExecutor

    def reason(index: int) -> str | None:
        return decode_fault(split[index]["image"])

    with ThreadPoolExecutor(max_workers=4) as pool:
        return [(i, fault) for i, fault in zip(indices, pool.map(reason, indices), strict=True) if fault]


def list_images(folder: Path, within: Path | None = None) -> list[Path]:
    """All images below a folder, in natural order; hidden files and folders are passed over.

    Args:
        folder: where to look.
        within: the folder that symbolic links may not lead out of (default: ``folder``).

    Raises:
        UserError: a symbolic link leads out.
    """
    return files_below(folder, image_endings(), within)


def has_images(folder: Path, within: Path | None = None) -> bool:
    """Whether an image stands anywhere below a folder; stops at the first."""
    return has_files(folder, image_endings(), within)


def image_endings() -> frozenset[str]:
    """The endings, in small letters and with their dots, of the formats that are read."""
    from PIL import Image

    kinds = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in kinds if kind in Image.OPEN and kind not in REFUSED_FORMATS)
