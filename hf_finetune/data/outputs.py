"""The protocol of a kind of label for reading, cleaning, splitting and auditing rows."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self

import numpy as np
from datasets import Dataset

from hf_finetune.config.options import DataConfig


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
