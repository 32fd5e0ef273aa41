"""The clean form of a data set: three splits with the same three columns, and the label names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hf_finetune.console import say
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

# One seed for every held-out split, so that runs with different training seeds are judged on the same rows.
SPLIT_SEED = 42


@dataclass
class Splits:
    """Rows ready for a task.

    Every split is a ``datasets.Dataset`` with the columns ``id`` (str), ``text`` (str) or ``image`` (bytes or path, not
    decoded), and ``label`` (int, an index into ``labels``).
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    labels: list[str]
    source: str
    notes: list[str] = field(default_factory=list)

    def items(self) -> list[tuple[str, Dataset]]:
        """The splits that there are, by name."""
        named = [("train", self.train), ("validation", self.validation), ("test", self.test)]
        return [(name, split) for name, split in named if split is not None]

    def class_counts(self, split: str) -> np.ndarray:
        """Rows of each class in a split, shape (number of labels,)."""
        rows = getattr(self, split)
        return np.bincount(np.asarray(rows["label"], dtype=np.int64), minlength=len(self.labels))


def hold_out_validation(train: Dataset, share: float | None, notes: list[str]) -> tuple[Dataset, Dataset | None]:
    """Hold the same share of every class out of the training rows, with a fixed seed; said aloud.

    A class of two rows or more gives at least one and keeps at least one; a single row stays in training. A share of 0
    holds nothing out; None is a tenth, and a twentieth where that is plenty.

    Raises:
        UserError: no class has two rows.
    """
    if share is None:
        share = 0.1 if len(train) < 5000 else 0.05
    if share == 0:
        return train, None
    labels = np.asarray(train["label"], dtype=np.int64)
    random = np.random.default_rng(SPLIT_SEED)
    out: list[int] = []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        out += rows[: min(max(1, round(share * len(rows))), len(rows) - 1)].tolist()
    if not out:
        raise UserError(
            f"{len(labels)} training rows, one of each class, are too few to hold a validation split out",
            where="the training rows",
            fix="give a validation split, more rows, or --validation_split 0 to train without one.",
        )
    note = (
        f"No validation split was given: {len(out)} of {len(train)} training rows are held out, "
        f"stratified by label (seed {SPLIT_SEED})."
    )
    say(note)
    notes.append(note)
    return train.select(np.setdiff1d(np.arange(len(labels)), out)), train.select(np.sort(out))
