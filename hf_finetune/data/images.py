"""Pictures: folders of them by class, and opening one as every viewer shows it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.data.labels import natural_key
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL import Image

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def open_image(cell: dict[str, Any] | str) -> Image.Image:
    """Decode one image cell (``{"bytes", "path"}`` as ``datasets`` stores it, or a path) to RGB, EXIF rotation applied.

    This is what ``transformers.image_utils.load_image`` does, so that ``pipeline()`` sees the same pixels.

    Raises:
        OSError, ValueError, SyntaxError: whatever Pillow says of a broken file.
    """
    from PIL import Image, ImageOps

    with Image.open(_source(cell)) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def open_reduced(cell: dict[str, Any] | str, edge: int) -> Image.Image:
    """As :func:`open_image`, with the shorter edge reduced to ``edge`` pixels; a smaller picture stays as it is.

    A JPEG is decoded near that size at once, which spares most of the work on a large photograph.

    Raises:
        OSError, ValueError, SyntaxError: whatever Pillow says of a broken file.
    """
    from PIL import ExifTags, Image, ImageOps

    with Image.open(_source(cell)) as picture:
        size = _reduce(picture.size, edge)
        shape = picture.size
        picture.draft("RGB", size)
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    if size == shape:
        return upright
    return upright.resize(size[::-1] if turned else size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def reduced_size(cell: dict[str, Any] | str, edge: int) -> tuple[int, int] | None:
    """Width and height that :func:`open_reduced` gives, before turning, from the file's header; None if it has none."""
    from PIL import Image

    try:
        with Image.open(_source(cell)) as picture:
            return _reduce(picture.size, edge)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _reduce(size: tuple[int, int], edge: int) -> tuple[int, int]:
    scale = edge / min(size)
    return size if scale >= 1 else (round(size[0] * scale), round(size[1] * scale))


def _source(cell: dict[str, Any] | str) -> Any:
    if not isinstance(cell, dict):
        return cell
    return io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else cell["path"]


def find_split_folders(root: Path) -> dict[str, Path]:
    """The split folders of an image folder; empty where the classes stand at its top."""
    # A class may be called "train": a split holds folders of pictures, not pictures.
    by_name = {
        path.name.lower(): path for path in _folders(root) if any(list_pictures(inner) for inner in _folders(path))
    }
    found = {split: by_name[name] for split, names in SPLIT_FOLDERS.items() for name in names if name in by_name}
    return found if "train" in found else {}


def read_image_folder(root: Path) -> Dataset:
    """One sub-folder a class, pictures at any depth below it; columns ``id``, ``image``, ``label`` (ClassLabel).

    Classes stand in natural order, hidden files and files that are no pictures are passed over.

    Raises:
        UserError: no such folder, or no class folder with a picture in it.
    """
    from datasets import ClassLabel, Dataset, Features, Image, Value

    if not root.is_dir():
        raise UserError("the folder does not exist", where=str(root), fix="check the path.")
    pictures = {folder.name: list_pictures(folder) for folder in _folders(root)}
    classes = sorted((name for name, files in pictures.items() if files), key=natural_key)
    if not classes:
        raise UserError(
            "no pictures in class folders were found",
            where=str(root),
            fix="put the pictures of each class into a sub-folder named after it: FOLDER/CLASS/picture.jpg.",
        )
    rows = [(file, index) for index, name in enumerate(classes) for file in pictures[name]]
    features = Features({"id": Value("string"), "image": Image(decode=False), "label": ClassLabel(names=classes)})
    return Dataset.from_dict(
        {
            "id": [file.relative_to(root).as_posix() for file, _ in rows],
            "image": [{"bytes": None, "path": str(file)} for file, _ in rows],
            "label": [index for _, index in rows],
        },
        features=features,
    )


def unreadable_images(split: Dataset, indices: list[int]) -> list[tuple[int, str]]:
    """Those of the rows that cannot be decoded, with what Pillow says. Decoding runs in threads, at low resolution.

    Raises nothing for a broken picture: that is its answer.
    """
    from concurrent.futures import ThreadPoolExecutor

    def reason(index: int) -> str | None:
        return _decode_fault(split[index]["image"])

    with ThreadPoolExecutor(max_workers=4) as pool:
        return [(i, fault) for i, fault in zip(indices, pool.map(reason, indices), strict=True) if fault]


def _decode_fault(cell: dict[str, Any]) -> str | None:
    from PIL import Image

    if cell is None or (cell.get("bytes") is None and cell.get("path") is None):
        return "no image"
    try:
        with Image.open(_source(cell)) as picture:
            picture.draft("RGB", (32, 32))  # JPEG: reads the whole stream, but computes an eighth of the pixels
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error)
    return None


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [path for path in root.iterdir() if path.is_dir() and not _hidden(Path(path.name))]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def list_pictures(folder: Path) -> list[Path]:
    """All pictures below a folder, in natural order; hidden files and folders are passed over."""
    from PIL import Image

    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings and not _hidden(path.relative_to(folder)) and path.is_file()
    ]
    return sorted(files, key=lambda path: natural_key(path.relative_to(folder).as_posix()))
