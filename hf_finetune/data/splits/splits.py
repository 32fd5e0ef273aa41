"""The clean form of a data set: up to three splits with standard columns, and the kind of label."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

# A fixed seed for held-out splits, so that runs with different training seeds are evaluated on the same rows.
SPLIT_SEED = 42


@dataclass
class Splits:
    """Rows ready for a task.

    Every split is a ``datasets.Dataset`` with the columns ``id`` (str), ``text`` and ``text_pair`` (str) or ``image``
    (bytes or path, not decoded), and ``label`` as encoded by ``output`` (a class id, a list of 0.0 and 1.0, or a list of
    numbers). With a group column there is ``group`` (str), and ``slice: NAME`` (str) for each ``--slice_column``. With
    ``--streaming``, ``train`` is a ``Stream``, which has a length and labels, but can only be read from the beginning.

    ``output`` is the kind of label with its names (see :mod:`hf_finetune.tasks.outputs`). ``inputs`` is the user's name of
    each input column → its standard name (several may be ``text``, which are joined); ``label_columns`` are the user's
    names. ``skipped`` lists the skipped rows (see :mod:`hf_finetune.data.rows.bad_rows`). ``split_table`` has the split of
    every row (see :mod:`hf_finetune.data.splits.split_file`).
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
        """Return (name, split) of the existing splits."""
        named = [("train", self.train), ("validation", self.validation), ("test", self.test)]
        return [(name, split) for name, split in named if split is not None]

    @property
    def labels(self) -> list[str]:
        """Return the names of the classes or targets."""
        return self.output.names

    def class_counts(self, split: str) -> Any:
        """Return the rows per class of a split, shape (classes,); a row counts in each of its classes. None without classes."""
        rows = getattr(self, split)
        if self.output.HAS_CLASSES and hasattr(rows, "class_counts"):  # of a stream, without listing its labels
            counts = rows.class_counts()
            return None if counts is None else np.pad(counts, (0, len(self.labels) - len(counts)))
        return self.output.class_counts(self.output.truth_of(rows))


def label_array(split: Any) -> np.ndarray:
    """Return the labels as one array, shape (rows,) or (rows, labels), without creating Python objects."""
    if not hasattr(split, "select_columns"):  # a stream
        return np.asarray(split["label"])
    column = split.with_format("arrow", columns=["label"])[:]["label"].combine_chunks()
    if not column.type.num_fields:
        return column.to_numpy(zero_copy_only=False)
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def label_cells(labels: list[Any]) -> np.ndarray:
    """Return encoded labels as one array whose first axis is rows; an object array if they differ in length."""
    if len({np.shape(label) for label in labels}) > 1:
        return ragged(map(np.asarray, labels))
    return np.asarray(labels)


def ragged(rows: Iterable[Any]) -> np.ndarray:
    """Return an object array of shape (rows,) with one value per row."""
    values = list(rows)
    found = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        found[index] = value
    return found


def spaced(count: int, most: int) -> np.ndarray:
    """Return indices of ``most`` evenly spaced rows out of ``count``, or of all if there are fewer."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
