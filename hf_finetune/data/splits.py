"""The clean form of a data set: three splits with the same three columns, and the label names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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

    Every split is a ``datasets.Dataset`` with the columns ``id`` (str), ``text`` (str; ``text_pair`` where there are pairs)
    or ``image`` (bytes or path, not decoded), and ``label``: an index into ``labels``; for several classes a row a list of
    0.0 and 1.0, for regression a list of numbers, both as long as ``labels``.

    ``problem`` is what transformers calls ``problem_type``; ``inputs`` and ``label_columns`` are the user's names of the
    columns.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    labels: list[str]
    source: str
    notes: list[str] = field(default_factory=list)
    problem: str = "single_label_classification"
    inputs: list[str] = field(default_factory=list)
    label_columns: list[str] = field(default_factory=list)

    def items(self) -> list[tuple[str, Dataset]]:
        """The splits that there are, by name."""
        named = [("train", self.train), ("validation", self.validation), ("test", self.test)]
        return [(name, split) for name, split in named if split is not None]

    def class_counts(self, split: str) -> np.ndarray:
        """Rows of each class in a split, shape (number of labels,); a row of several classes counts in each."""
        labels = np.asarray(getattr(self, split)["label"][:])
        if labels.ndim == 2:
            return labels.sum(axis=0).astype(np.int64)
        return np.bincount(labels.astype(np.int64), minlength=len(self.labels))


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
    labels = strata(train["label"][:])
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


def strata(labels: list[Any]) -> np.ndarray:
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
