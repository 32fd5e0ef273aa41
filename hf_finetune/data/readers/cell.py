"""What a cell of input is: a text, an image, or another kind of file. The readers are told by a value what they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.data.images.decode import image_endings
from hf_finetune.data.readers.encoding import decode_texts
from hf_finetune.data.readers.source import File

if TYPE_CHECKING:
    import pyarrow as pa

Values = Callable[[list[File]], "pa.Array"]


@dataclass(frozen=True)
class Cell:
    """One kind of input cell.

    Args:
        column: its standard name.
        called: the files in messages, in the plural.
        example: the name of such a file.
        endings: gives the endings of the files, in small letters and with their dots.
        feature: gives its type, as ``datasets`` spells it.
        stays_a_file: the cell is ``{"bytes", "path"}``, and a table may name files instead of holding the content.
        names: what its column is called, the usual name first.
        open_files: gives the function that makes cells of files, and what its result depends on besides the files.
    """

    column: str
    called: str
    example: str
    endings: Callable[[], frozenset[str]]
    feature: Callable[[], Any]
    stays_a_file: bool
    names: tuple[str, ...]
    open_files: Callable[[list[File], Path, str | None], tuple[Values, Any]]


def keep_files(files: list[File], root: Path, encoding: str | None = None) -> tuple[Values, Any]:
    """Cells that are files: the path of one that stands alone, the bytes of one in an archive; nothing is decoded."""
    return file_cells, None


def file_cells(files: list[File]) -> pa.Array:
    """``{"bytes", "path"}`` of every file."""
    import pyarrow as pa

    content = pa.array([None if file.size is None else file.read() for file in files], pa.binary())
    paths = pa.array([str(file.path) if file.size is None else None for file in files], pa.string())
    return pa.StructArray.from_arrays([content, paths], ["bytes", "path"])


def _text_feature() -> Any:
    from datasets import Value

    return Value("string")


def _image_feature() -> Any:
    from datasets import Image

    return Image(decode=False)


def _text_endings() -> frozenset[str]:
    return frozenset({".txt"})


TEXT = Cell("text", ".txt files", "text.txt", _text_endings, _text_feature, False, ("text",), decode_texts)
IMAGE = Cell(
    "image",
    "images",
    "image.jpg",
    image_endings,
    _image_feature,
    True,
    ("image", "img", "picture", "photo"),
    keep_files,
)
