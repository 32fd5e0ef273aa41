"""Orders of rows: those of similar length together, classes equally often; the same in any number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Samples rows in an order that depends on seed and epoch only; an epoch has as many rows as the data.

    With classes, each has the same number of rows in an epoch: those of large classes are sampled without replacement, those
    of small classes repeat, and their counts differ by at most one. (The sampler of transformers uses the global
    generator of each process and groups the rows of one process: orders differ, and rows are seen twice or never.)

    Args:
        seed: seed of the order.
        step_rows: rows of one optimiser step, over all processes and accumulated batches.
        lengths: length of each row, to group rows of one step by length, so that they need little padding.
        classes: class id of each row, shape (rows,), to balance them. Lengths or classes must be given.
    """

    def __init__(
        self, seed: int, step_rows: int, *, lengths: list[int] | None = None, classes: np.ndarray | None = None
    ) -> None:
        self.seed = seed
        self.step_rows = step_rows
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.number = len(lengths or [] if classes is None else classes)
        self.rows = None if classes is None else [np.flatnonzero(classes == label) for label in np.unique(classes)]
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, on resuming too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[int]:
        from transformers.trainer_pt_utils import get_length_grouped_indices

        order = np.arange(self.number) if self.rows is None else self._balanced(self.rows)
        if self.lengths is not None:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = order[get_length_grouped_indices(self.lengths[order].tolist(), self.step_rows, generator=generator)]
        return iter(order.tolist())

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
