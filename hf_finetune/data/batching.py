"""Orders of rows: those of similar length together, classes equally often, empty rows seldom; the same in all processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Samples rows in an order that depends on seed and epoch only; all epochs have the same number of rows.

    With classes, each has the same number of rows in an epoch: those of large classes are sampled without replacement, those
    of small classes repeat, and their counts differ by at most one. With empty rows, an epoch has all others and a part of
    them, the next epoch the next part. (The sampler of transformers uses the global generator of each process and groups the
    rows of one process: orders differ, and rows are seen twice or never.)

    Args:
        seed: seed of the order.
        step_rows: rows of one optimiser step, over all processes and accumulated batches.
        lengths: length of each row, to group rows of one step by length, so that they need little padding.
        classes: class id of each row, shape (rows,), to balance them.
        empty: whether each row is read in one of ``every`` epochs only, shape (rows,); not with classes. One of lengths,
            classes and empty must be given.
        every: see ``empty``.
    """

    def __init__(
        self,
        seed: int,
        step_rows: int,
        *,
        lengths: list[int] | None = None,
        classes: np.ndarray | None = None,
        empty: np.ndarray | None = None,
        every: int = 1,
    ) -> None:
        self.seed = seed
        self.step_rows = step_rows
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.number = len(next(given for given in (classes, empty, lengths) if given is not None))
        self.rows = None if classes is None else [np.flatnonzero(classes == label) for label in np.unique(classes)]
        self.empty = None
        if empty is not None and every > 1:
            self.empty = np.random.default_rng(seed).permutation(np.flatnonzero(empty))
            self.full = np.flatnonzero(~empty)
            self.part = -(-len(self.empty) // every)
            self.number = len(self.full) + self.part
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, on resuming too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[int]:
        from transformers.trainer_pt_utils import get_length_grouped_indices

        if self.rows is not None:
            order = self._balanced(self.rows)
        elif self.empty is not None:
            order = self._with_some(self.empty)
        else:
            order = np.arange(self.number)
        if self.lengths is not None:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = order[get_length_grouped_indices(self.lengths[order].tolist(), self.step_rows, generator=generator)]
        return iter(order.tolist())

    def _with_some(self, empty: np.ndarray) -> np.ndarray:
        some = empty[(self.epoch * self.part + np.arange(self.part)) % max(1, len(empty))]
        return np.random.default_rng([self.seed, self.epoch]).permutation(np.concatenate([self.full, some]))

    def _balanced(self, classes: list[np.ndarray]) -> np.ndarray:
        random = np.random.default_rng([self.seed, self.epoch])
        parts = np.full(len(classes), self.number // len(classes))
        parts[random.permutation(len(parts))[: self.number % len(parts)]] += 1
        drawn = []
        for rows, part in zip(classes, parts, strict=True):
            whole, rest = divmod(part, len(rows))
            drawn += [np.tile(rows, whole), random.permutation(rows)[:rest]]
        return random.permutation(np.concatenate(drawn))


def longest_first(lengths: list[int]) -> list[int]:
    """Return the rows with the longest first, for evaluation: there is little padding, and a lack of memory shows at once."""
    return np.argsort(-np.asarray(lengths), kind="stable").tolist()
