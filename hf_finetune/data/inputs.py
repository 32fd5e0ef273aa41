"""What is asked of a kind of input while rows are read, cleaned and audited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

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
