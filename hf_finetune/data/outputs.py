"""What is asked of a kind of label while rows are read, cleaned, divided and audited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_finetune.config.options import DataConfig


class RowOutput(Protocol):
    """The labels of a data set, as far as rows go. ``truth`` holds encoded labels; its first axis is rows."""

    NAME: ClassVar[str]
    HAS_CLASSES: ClassVar[bool]  # else equal inputs may have different labels, and no class must stay in training
    ONE_CLASS: ClassVar[bool]  # a row has one class

    @property
    def names(self) -> list[str]:
        """The classes or numbers."""

    def read_from(self, columns: list[str], options: DataConfig) -> Self:
        """Return the same output, whose labels are in these columns."""

    def unusable(self, split: Dataset) -> list[tuple[np.ndarray, str]]:
        """Return which rows have labels that cannot be used, shape (rows,), and what is wrong with them; one pair a fault."""

    def encode(self, split: Dataset, split_name: str) -> list[Any]:
        """Return the column ``label`` of a split.

        Raises:
            UserError: a missing label, or one that the training rows do not have.
        """

    def truth_of(self, split: Any) -> np.ndarray:
        """Return the labels of an encoded split."""

    def describe(self) -> str:
        """Return what the labels are, in words: ``3 classes``."""

    def strata(self, truth: np.ndarray) -> np.ndarray:
        """Return the group of each row that every split should have its share of, integers of shape (rows,)."""


class RowTask(Protocol):
    """The task that rows are read for: its input, and the outputs that it may have."""

    @property
    def input(self) -> Any:
        """What a row holds."""

    @property
    def outputs(self) -> RowOutputs:
        """The kinds of label that a row may have."""


class RowOutputs(Protocol):
    """The kinds of label that the rows of a task may have."""

    def find(self, train: Dataset, columns: list[str], options: DataConfig) -> Any:
        """Return the output of some training rows.

        Raises:
            UserError: the labels are not of the kind that was asked for.
        """

    def blank_is_missing(self, options: DataConfig) -> bool:
        """Return whether an empty cell is a missing label."""
