"""Protocols of an input, a kind of label and a task for reading, cleaning, splitting and auditing rows."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pyarrow as pa
from datasets import Dataset

from hf_finetune.config.options import DataConfig
from hf_finetune.data.readers.cell import Cell
from hf_finetune.data.rows.columns import find_label


class RowInput(Protocol):
    """The rows of a kind of input. ``clean`` and ``standard`` give the user's columns their standard names.

    A method with code here is a default for inputs that inherit from this class.

    ``inputs`` is always the user's name of each column → its standard name.
    """

    cell: Cell
    block_rows: int  # rows of a stream that are in memory at once and shuffled together
    most_judging: int  # default limit on held-out rows of a stream, which are in memory

    def find_columns(self, split: Any, config: DataConfig, taken: tuple[str, ...]) -> dict[str, str]:
        """Return the input columns, none of which is in ``taken``.

        Raises:
            UserError: a named column is missing, or the choice is not clear.
        """

    def find_labels(self, split: Any, named: list[str]) -> list[str]:
        """Return the label columns: those that the user named, or the one with a usual name or type.

        Raises:
            UserError: the choice is not clear.
        """
        return named or [find_label(split, None)]

    def label_columns(self, labels: list[str], inputs: dict[str, str]) -> list[str]:
        """Return the columns from which labels are read."""
        return labels

    def describe(self, inputs: dict[str, str]) -> str:
        """Return the columns in words: ``text column 'review'``."""

    def refuse_other_types(self, split: Any, inputs: dict[str, str], where: str) -> None:
        """Refuse columns of other types."""

    def clean(self, split: Dataset, inputs: dict[str, str], where: str) -> Dataset:
        """Return only the standard columns of a split.

        Raises:
            UserError: a column has another type.
        """

    def standard(self, block: pa.Table, inputs: dict[str, str]) -> pa.Table:
        """Return the standard columns of some rows."""

    def filled(self, inputs: dict[str, str]) -> dict[str, list[str]]:
        """Return standard column → columns of which every row needs at least one."""

    def unlabelled(
        self, split: Dataset, config: DataConfig, trained: dict[str, list[str]] | None, where: str
    ) -> tuple[Dataset, dict[str, str]]:
        """Return rows to predict and the columns of their input.

        Args:
            split: the rows.
            config: columns named by the user.
            trained: standard name → columns that the model was trained on.
            where: name of the rows in messages.
        """

    def unreadable(self, split: Dataset, rows: list[int]) -> list[tuple[int, str]]:
        """Return the unreadable ones of these clean rows, each with the reason."""

    def lengths(self, block: pa.Table) -> np.ndarray | None:
        """Return the approximate length of each clean row; None if all are equally long."""

    def row_keys(self, splits: dict[str, Dataset]) -> dict[str, np.ndarray]:
        """Return a number per row of each clean split, equal only for equal inputs."""


class RowOutput(Protocol):
    """The labels of a data set. ``truth`` is encoded labels; its first axis is rows."""

    NAME: ClassVar[str]  # in evaluation.json and for ``--problem_type``
    # Whether labels are classes with probabilities. Numbers of equal inputs may differ, and need not all be in training.
    HAS_CLASSES: ClassVar[bool]
    ONE_CLASS: ClassVar[bool]  # whether each row has one class

    names: list[str]  # of the classes or targets

    def read_from(self, columns: list[str], options: DataConfig) -> Self:
        """Return the same output for labels in these columns."""

    def unusable(self, split: Dataset) -> list[tuple[np.ndarray, str]]:
        """Return pairs of a mask of rows with unusable labels, shape (rows,), and the reason; those of others are errors."""
        return []

    def encode(self, split: Dataset, split_name: str) -> list[Any]:
        """Return the column ``label`` of a split.

        Raises:
            UserError: a label that is missing, of the wrong type, or not in the training rows.
        """

    def truth_of(self, split: Any) -> np.ndarray:
        """Return the labels of an encoded split."""

    def describe(self) -> str:
        """Return the labels in words: ``3 classes``."""

    def strata(self, truth: np.ndarray) -> np.ndarray:
        """Return the stratum of each row for splitting, integers of shape (rows,)."""


class RowTask(Protocol):
    """A task for reading rows: its input and its possible outputs."""

    @property
    def input(self) -> Any:
        """Return the kind of input."""

    @property
    def outputs(self) -> RowOutputs:
        """Return the possible kinds of label."""


class RowOutputs(Protocol):
    """The possible kinds of label of a task."""

    def find(self, train: Dataset, columns: list[str], options: DataConfig) -> Any:
        """Return the output for the training rows.

        Raises:
            UserError: the labels are not of the requested kind.
        """

    def blank_is_missing(self, options: DataConfig) -> bool:
        """Return whether an empty cell is a missing label."""
