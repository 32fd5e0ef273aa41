"""The clean form of a data set: three splits with the same three columns, and what their labels are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

# One seed for every held-out split, so that runs with different training seeds are judged on the same rows.
SPLIT_SEED = 42


@dataclass
class Splits:
    """Rows ready for a task.

    Every split is a ``datasets.Dataset`` with the columns ``id`` (str), ``text`` (str; ``text_pair`` where there are pairs)
    or ``image`` (bytes or path, not decoded), and ``label``, as ``output`` encodes it: of classes an index into its names, a list of 0.0
    and 1.0 where a row has several, or a list of numbers. Where groups were named there is ``group``
    (str) as well, and ``slice: NAME`` (str) for each ``--slice_column``. With ``--streaming``, ``train`` is a ``Stream``,
    which has a length and labels, but is read from its beginning only.

    ``output`` is the kind of label with its names (see :mod:`hf_finetune.tasks.outputs`). ``inputs`` are the user's names of
    the input columns, each with its standard name (several may be ``text``: they make one), ``label_columns`` those of the labels.
    ``skipped`` lists the rows that were left out (see :mod:`hf_finetune.data.rows.skipped`).
    ``split_table`` says of every row that was read which split it is in (see :mod:`hf_finetune.data.splits.split_file`).
    """

    train: Any
    validation: Dataset | None
    test: Dataset | None
    output: Any
    source: str
    notes: list[str] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    split_table: pa.Table | None = None
    label_columns: list[str] = field(default_factory=list)

    def items(self) -> list[tuple[str, Any]]:
        """The splits that there are, by name."""
        named = [("train", self.train), ("validation", self.validation), ("test", self.test)]
        return [(name, split) for name, split in named if split is not None]

    @property
    def labels(self) -> list[str]:
        """The classes, or of numbers their columns."""
        return self.output.names

    def class_counts(self, split: str) -> Any:
        """Return the rows of each class in a split, shape (classes,); a row of several classes counts in each.

        None where there are no classes.
        """
        rows = getattr(self, split)
        if self.output.HAS_CLASSES and hasattr(rows, "class_counts"):  # a stream knows them without listing its labels
            counts: np.ndarray = rows.class_counts()
            return np.pad(counts, (0, len(self.labels) - len(counts)))
        return self.output.class_counts(self.output.truth_of(rows))


def label_array(split: Any) -> np.ndarray:
    """Labels as one array, shape (rows,) or (rows, labels), without a Python object for each."""
    if not hasattr(split, "select_columns"):  # a stream
        return np.asarray(split["label"])
    column = split.select_columns(["label"]).with_format("arrow")[:]["label"].combine_chunks()
    if not column.type.num_fields:
        return column.to_numpy(zero_copy_only=False)
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def spaced(count: int, most: int) -> np.ndarray:
    """Indices of evenly spaced rows, all of ``count`` where that is not more than ``most``."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
