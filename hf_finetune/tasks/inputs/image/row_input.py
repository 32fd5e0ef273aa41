"""Rows of images: find their column, the unreadable ones and the equal ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from hf_finetune.config.options import DataConfig
from hf_finetune.data.images.decode import unreadable_images
from hf_finetune.data.protocols import RowInput
from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.data.rows.columns import find_image
from hf_finetune.data.rows.file_keys import file_keys


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
        return file_keys(splits, "image")


rows: RowInput = _ImageRows()
