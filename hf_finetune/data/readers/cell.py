"""What a cell of input is: a text, an image, or another kind of file. The readers are told by a value what they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Image, Value

from hf_finetune.data.images.decode import image_endings
from hf_finetune.data.readers.encoding import decode_texts
from hf_finetune.data.readers.source import File
from hf_finetune.data.rows.columns import IMAGE_NAMES

Values = Callable[[list[File]], "pa.Array"]


@dataclass(frozen=True)
class Cell:
    """One kind of input cell."""

    column: str  # its standard name
    called: str  # the files in messages, in the plural
    example: str  # the name of such a file
    endings: Callable[[], frozenset[str]]  # of the files, in small letters and with their dots
    feature: Any  # its type, as ``datasets`` spells it
    stays_a_file: bool  # the cell is ``{"bytes", "path"}``, and a table may name files instead of holding the content
    names: tuple[str, ...]  # what its column is called, the usual name first
    # Gives the function that makes cells of files, and what its result depends on besides the files.
    open_files: Callable[[list[File], Path, str | None], tuple[Values, Any]]


def file_cells(files: list[File]) -> pa.Array:
    """Return ``{"bytes", "path"}``: the path of a file that stands alone, the bytes of one in an archive."""
    content = pa.array([None if file.size is None else file.read() for file in files], pa.binary())
    paths = pa.array([str(file.path) if file.size is None else None for file in files], pa.string())
    return pa.StructArray.from_arrays([content, paths], ["bytes", "path"])


TEXT = Cell(
    "text", ".txt files", "text.txt", lambda: frozenset({".txt"}), Value("string"), False, ("text",), decode_texts
)
IMAGE = Cell(
    "image",
    "images",
    "image.jpg",
    image_endings,
    Image(decode=False),
    True,
    IMAGE_NAMES,
    lambda *_: (file_cells, None),
)
