"""The clean form of a data set: three splits with the same three columns, and the label names."""

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
    or ``image`` (bytes or path, not decoded), and ``label``: an index into ``labels``; for several classes a row a list of
    0.0 and 1.0, for regression a list of numbers, both as long as ``labels``. Where groups were named there is ``group``
    (str) as well, and ``slice: NAME`` (str) for each ``--slice_column``. With ``--streaming``, ``train`` is a ``Stream``,
    which has a length and labels, but is read from its beginning only.

    ``problem`` is what transformers calls ``problem_type``; ``inputs`` are the user's names of the input columns, each with
    its standard name (several may be ``text``: they make one), ``label_columns`` those of the labels.
    ``skipped`` lists the rows that were left out (see :mod:`hf_finetune.data.rows.skipped`).
    ``split_table`` says of every row that was read which split it is in (see :mod:`hf_finetune.data.splits.split_file`).
    """

    train: Any
    validation: Dataset | None
    test: Dataset | None
    labels: list[str]
    source: str
    notes: list[str] = field(default_factory=list)
    problem: str = "single_label_classification"
    inputs: dict[str, str] = field(default_factory=dict)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    split_table: pa.Table | None = None
    label_columns: list[str] = field(default_factory=list)

    def items(self) -> list[tuple[str, Any]]:
        """The splits that there are, by name."""
        named = [("train", self.train), ("validation", self.validation), ("test", self.test)]
        return [(name, split) for name, split in named if split is not None]

    def class_counts(self, split: str) -> np.ndarray:
        """Rows of each class in a split, shape (number of labels,); a row of several classes counts in each."""
        rows = getattr(self, split)
        if hasattr(rows, "class_counts"):  # a stream knows them without listing its labels
            counts: np.ndarray = rows.class_counts()
            return np.pad(counts, (0, len(self.labels) - len(counts)))
        labels = label_array(rows)
        if labels.ndim == 2:
            return labels.sum(axis=0).astype(np.int64)
        return np.bincount(labels.astype(np.int64), minlength=len(self.labels))


def strata(labels: list[Any] | np.ndarray) -> np.ndarray:
    """Group of each row that every split should have its share of, shape (rows,).

    The class; of several classes the rarest that the row has (-1 for none); of numbers the tenth of the rows that the
    first of them falls into.
    """
    values = np.asarray(labels)
    if values.ndim == 1:
        return values.astype(np.int64)
    if set(np.unique(values)) <= {0.0, 1.0} and values.shape[1] > 1:
        rarity = np.where(values > 0, values.sum(axis=0), np.inf)
        return np.where(values.any(axis=1), rarity.argmin(axis=1), -1)
    edges = np.quantile(values[:, 0], np.linspace(0, 1, min(10, len(values) // 2 or 1) + 1)[1:-1])
    return np.searchsorted(edges, values[:, 0], side="right")


def label_array(split: Dataset) -> np.ndarray:
    """Labels as one array, shape (rows,) or (rows, labels), without a Python object for each."""
    column = split.select_columns(["label"]).with_format("arrow")[:]["label"].combine_chunks()
    if not column.type.num_fields:
        return column.to_numpy(zero_copy_only=False)
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def spaced(count: int, most: int) -> np.ndarray:
    """Indices of evenly spaced rows, all of ``count`` where that is not more than ``most``."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
