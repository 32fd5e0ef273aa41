"""Samplers: rows of similar length together, or classes equally often; the same order in any number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler


class LengthGroupedSampler(Sampler[int]):
    """Samples shuffled rows so that those of one optimiser step have similar lengths and need little padding.

    The order depends on seed and epoch only. (The sampler of transformers uses the global generator of each process and
    groups the rows of one process, so that the orders differ, and rows are seen twice or never.)

    Args:
        lengths: length of each row.
        step_rows: rows of one optimiser step, over all processes and accumulated batches.
        seed: seed of the order.
    """

    def __init__(self, lengths: list[int], step_rows: int, seed: int) -> None:
        self.lengths = lengths
        self.step_rows = step_rows
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, on resuming too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        from transformers.trainer_pt_utils import get_length_grouped_indices

        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.step_rows, generator=generator))


class BalancedSampler(Sampler[int]):
    """Samples the same number of rows from each class in each epoch; an epoch has as many rows as the data.

    Rows of large classes are sampled without replacement; rows of small classes repeat, and their counts differ by at
    most one. The order depends on seed and epoch only.

    Args:
        classes: class id of each row, shape (rows,).
        seed: seed of the order.
        lengths: length of each row, to group rows of one optimiser step by length.
        step_rows: rows of one optimiser step, over all processes and accumulated batches.
    """

    def __init__(
        self, classes: np.ndarray, seed: int, lengths: list[int] | None = None, step_rows: int | None = None
    ) -> None:
        self.rows = [np.flatnonzero(classes == label) for label in np.unique(classes)]
        self.number = len(classes)
        self.seed = seed
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.step_rows = step_rows
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, on resuming too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[int]:
        from transformers.trainer_pt_utils import get_length_grouped_indices

        random = np.random.default_rng([self.seed, self.epoch])
        parts = np.full(len(self.rows), self.number // len(self.rows))
        parts[random.permutation(len(parts))[: self.number % len(parts)]] += 1
        drawn = np.concatenate([_draw(rows, part, random) for rows, part in zip(self.rows, parts, strict=True)])
        drawn = random.permutation(drawn)
        if self.lengths is not None:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            drawn = drawn[get_length_grouped_indices(self.lengths[drawn].tolist(), self.step_rows, generator=generator)]
        return iter(drawn.tolist())


def _draw(rows: np.ndarray, number: int, random: np.random.Generator) -> np.ndarray:
    """Return ``number`` of the rows; the counts of two rows differ by at most one."""
    whole, rest = divmod(number, len(rows))
    return np.concatenate([np.tile(rows, whole), random.permutation(rows)[:rest]])


class LongestFirstSampler(Sampler[int]):
    """Samples the longest rows first, for evaluation: there is little padding, and a lack of memory shows at once.

    Args:
        lengths: length of each row.
    """

    def __init__(self, lengths: list[int]) -> None:
        self.order = np.argsort(-np.asarray(lengths), kind="stable")

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order.tolist())
