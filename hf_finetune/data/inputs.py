"""What is asked of a kind of input while rows are read, cleaned and audited; and the kinds: texts and images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hf_finetune.data.readers.cell import IMAGE as IMAGE_CELL
from hf_finetune.data.readers.cell import TEXT as TEXT_CELL
from hf_finetune.data.readers.cell import Cell

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from hf_finetune.config.options import DataConfig


class RowInput(Protocol):
    """One kind of input, as far as rows go. Columns are the user's until ``clean`` or ``standard`` names them.

    ``inputs`` is everywhere the user's name of each column → its standard name.
    """

    cell: Cell
    block_rows: int  # rows of a stream that are in memory at once, and that are shuffled among each other
    most_judging: (
        int  # rows of a stream's split that judges, at most, where the user names no number: they are in memory
    )

    def find_columns(self, split: Any, config: DataConfig, taken: tuple[str, ...]) -> dict[str, str]:
        """Return the columns of the input; ``taken`` hold something else.

        Raises:
            UserError: a column that was named is not there, or none is clearly meant.
        """

    def describe(self, inputs: dict[str, str]) -> str:
        """Return the columns in words: ``text column 'review'``."""

    def refuse_other_types(self, split: Any, inputs: dict[str, str], where: str) -> None:
        """Refuse columns that do not hold such inputs."""

    def clean(self, split: Dataset, inputs: dict[str, str], where: str) -> Dataset:
        """Return the standard columns of a split, and no others.

        Raises:
            UserError: a column holds something else, or a row has no input.
        """

    def standard(self, block: pa.Table, inputs: dict[str, str]) -> pa.Table:
        """Return the standard columns of some rows."""

    def filled(self, inputs: dict[str, str]) -> dict[str, list[str]]:
        """Return the columns of which every row needs one, by the standard column that they make."""

    def unlabelled(
        self, split: Dataset, config: DataConfig, trained: dict[str, list[str]] | None, where: str
    ) -> tuple[Dataset, dict[str, str]]:
        """Return rows to predict and the columns of their input.

        Args:
            split: the rows.
            config: what the user named.
            trained: standard name → the columns that the model was trained on.
            where: the rows in messages.
        """

    def unreadable(self, split: Dataset, rows: list[int]) -> list[tuple[int, str]]:
        """Return those of some clean rows that cannot be read, each with the reason."""

    def lengths(self, block: pa.Table) -> np.ndarray | None:
        """Return about how long each of some clean rows is; None where all are alike."""

    def row_keys(self, splits: dict[str, Dataset]) -> dict[str, np.ndarray]:
        """Return a number for each row of each clean split that only rows with the same input share."""


class _Texts:
    cell = TEXT_CELL
    block_rows = 10_000
    most_judging = 10_000

    def find_columns(self, split: Any, config: DataConfig, taken: tuple[str, ...]) -> dict[str, str]:
        from hf_finetune.data.rows.columns import find_texts

        return find_texts(split, config, taken)

    def describe(self, inputs: dict[str, str]) -> str:
        from hf_finetune.data.rows.texts import describe_texts

        return describe_texts(inputs)

    def refuse_other_types(self, split: Any, inputs: dict[str, str], where: str) -> None:
        from hf_finetune.data.rows.texts import refuse_other_types

        for column in inputs:
            refuse_other_types(split, column, where)

    def clean(self, split: Dataset, inputs: dict[str, str], where: str) -> Dataset:
        from hf_finetune.data.rows.texts import standard_texts

        return standard_texts(split, inputs, where, "fill the texts in, or drop these rows with --on_bad_row skip.")

    def standard(self, block: pa.Table, inputs: dict[str, str]) -> pa.Table:
        from hf_finetune.data.rows.texts import join_texts

        return join_texts(block, inputs)

    def filled(self, inputs: dict[str, str]) -> dict[str, list[str]]:
        return {
            standard: [own for own, meant in inputs.items() if meant == standard]
            for standard in dict.fromkeys(inputs.values())
        }

    def unlabelled(
        self, split: Dataset, config: DataConfig, trained: dict[str, list[str]] | None, where: str
    ) -> tuple[Dataset, dict[str, str]]:
        from hf_finetune.data.rows.columns import find_texts

        inputs = find_texts(split, config, ("label",), trained)
        self.refuse_other_types(split, inputs, where)
        return split, inputs

    def unreadable(self, split: Dataset, rows: list[int]) -> list[tuple[int, str]]:
        return []

    def lengths(self, block: pa.Table) -> np.ndarray | None:
        from pyarrow import compute

        texts = [name for name in block.column_names if name.startswith("text")]
        return np.sum([compute.binary_length(block[name]).to_numpy() for name in texts], axis=0)

    def row_keys(self, splits: dict[str, Dataset]) -> dict[str, np.ndarray]:
        from hf_finetune.data.rows.duplicates import text_keys

        return text_keys(splits)


class _Images:
    cell = IMAGE_CELL
    block_rows = 1_000
    most_judging = 5_000

    def find_columns(self, split: Any, config: DataConfig, taken: tuple[str, ...]) -> dict[str, str]:
        from hf_finetune.data.rows.columns import find_image

        return {find_image(split, config.image_column): "image"}

    def describe(self, inputs: dict[str, str]) -> str:
        return f"image column {next(iter(inputs))!r}"

    def refuse_other_types(self, split: Any, inputs: dict[str, str], where: str) -> None:
        return None  # only columns of images are found

    def clean(self, split: Dataset, inputs: dict[str, str], where: str) -> Dataset:
        own = next(iter(inputs))
        images = split.select_columns([own]).rename_columns({} if own == "image" else {own: "image"})
        return images.cast_column("image", self.cell.feature())

    def standard(self, block: pa.Table, inputs: dict[str, str]) -> pa.Table:
        return block.select(list(inputs)).rename_columns(list(inputs.values()))

    def filled(self, inputs: dict[str, str]) -> dict[str, list[str]]:
        return {}  # a row without an image is one whose image cannot be read

    def unlabelled(
        self, split: Dataset, config: DataConfig, trained: dict[str, list[str]] | None, where: str
    ) -> tuple[Dataset, dict[str, str]]:
        if split.column_names == ["id", "image"]:  # files of a folder, and no table
            return split, {"image": "image"}
        inputs = self.find_columns(split, config, ())
        ids = [str(i) for i in (split["id"][:] if "id" in split.column_names else range(len(split)))]
        return self.clean(split, inputs, where).add_column("id", ids), {"image": "image"}

    def unreadable(self, split: Dataset, rows: list[int]) -> list[tuple[int, str]]:
        from hf_finetune.data.images.decode import unreadable_images

        return unreadable_images(split, rows)

    def lengths(self, block: pa.Table) -> np.ndarray | None:
        return None

    def row_keys(self, splits: dict[str, Dataset]) -> dict[str, np.ndarray]:
        from hf_finetune.data.rows.duplicates import image_keys

        return image_keys(splits)


TEXT, IMAGE = _Texts(), _Images()
INPUTS: dict[str, RowInput] = {"text": TEXT, "image": IMAGE}


def input_of(column_names: list[str]) -> RowInput:
    """Return the kind of input that clean rows with these columns hold."""
    return next(each for each in INPUTS.values() if each.cell.column in column_names)
