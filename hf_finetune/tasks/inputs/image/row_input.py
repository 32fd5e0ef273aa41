"""Rows of images: find their column, the unreadable ones and the equal ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from hf_finetune.config.options import DataConfig
from hf_finetune.data.images.decode import unreadable_images
from hf_finetune.data.protocols import RowInput
from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.data.rows.columns import find_image
from hf_finetune.data.rows.duplicates import tables


class _ImageRows(RowInput):
    """Rows of images, kept as files until they are decoded."""

    cell = IMAGE
    block_rows = 1_000
    most_judging = 5_000

    def find_columns(self, split: Any, config: DataConfig, taken: tuple[str, ...]) -> dict[str, str]:
        return {find_image(split, config.image_column): "image"}

    def describe(self, inputs: dict[str, str]) -> str:
        return f"image column {next(iter(inputs))!r}"

    def refuse_other_types(self, split: Any, inputs: dict[str, str], where: str) -> None:
        return None  # find_columns only finds columns of images

    def clean(self, split: Dataset, inputs: dict[str, str], where: str) -> Dataset:
        own = next(iter(inputs))
        images = split.select_columns([own]).rename_columns({} if own == "image" else {own: "image"})
        return images.cast_column("image", self.cell.feature)

    def standard(self, block: pa.Table, inputs: dict[str, str]) -> pa.Table:
        return block.select(list(inputs)).rename_columns(list(inputs.values()))

    def filled(self, inputs: dict[str, str]) -> dict[str, list[str]]:
        return {}  # a missing image counts as an unreadable one

    def unlabelled(
        self, split: Dataset, config: DataConfig, trained: dict[str, list[str]] | None, where: str
    ) -> tuple[Dataset, dict[str, str]]:
        if split.column_names == ["id", "image"]:  # an image folder, not a table
            return split, {"image": "image"}
        inputs = self.find_columns(split, config, ())
        ids = [str(i) for i in (split["id"][:] if "id" in split.column_names else range(len(split)))]
        return self.clean(split, inputs, where).add_column("id", ids), {"image": "image"}

    def unreadable(self, split: Dataset, rows: list[int]) -> list[tuple[int, str]]:
        return unreadable_images(split, rows)

    def lengths(self, block: pa.Table) -> np.ndarray | None:
        return None

    def row_keys(self, splits: dict[str, Dataset]) -> dict[str, np.ndarray]:
        """Files of unique size are not read; they get unique numbers."""
        sizes = {name: _sizes(split) for name, split in splits.items()}
        values, counts = np.unique(np.concatenate(list(sizes.values())), return_counts=True)
        shared = values[(counts > 1) & (values >= 0)]
        found, unread = {}, 0
        for name, split in splits.items():
            # Unique numbers are small; hashes have the highest bit set.
            found[name] = np.arange(unread, unread + len(split), dtype=np.uint64)
            unread += len(split)
            for row in np.flatnonzero(np.isin(sizes[name], shared)):
                found[name][row] = _hash(split[int(row)]["image"])
        return found


rows: RowInput = _ImageRows()


def _sizes(split: Dataset) -> np.ndarray:
    """Return the bytes of every image, -1 if missing."""
    sizes: list[int] = []
    for table in tables(split, ["image"], 1000):
        cells = table["image"].combine_chunks()
        embedded = pc.binary_length(pc.struct_field(cells, "bytes")).to_pylist()
        paths = pc.struct_field(cells, "path").to_pylist()
        sizes += [_size(path) if size is None else size for size, path in zip(embedded, paths, strict=True)]
    return np.array(sizes, dtype=np.int64)


def _size(path: str | None) -> int:
    return Path(path).stat().st_size if path is not None and Path(path).is_file() else -1


def _hash(cell: dict[str, Any]) -> int:
    content = Path(cell["path"]).read_bytes() if cell.get("bytes") is None else cell["bytes"]
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") | 1 << 63
