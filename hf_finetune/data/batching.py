"""The order of rows: texts of like length together, classes equally often; the same in any number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler


class LengthGroupedSampler(Sampler[int]):
    """Shuffled rows, grouped so that those of one optimiser step are of like length and little is padded.

    The order is a function of seed and epoch alone. (The sampler of transformers draws from each process's global
    generator, and groups by the rows of one process: processes drift apart, and rows are seen twice or never.)

    Args:
        lengths: of each row.
        step_rows: rows of one optimiser step, over all processes and accumulated batches.
        seed: of the order.
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
    """As many rows as there are, equally many of each class, shuffled; another choice of them every epoch.

    A class of more rows than its part shows some of them, one of fewer shows each of them equally often but for one. The
    order is a function of seed and epoch alone.

    Args:
        classes: of each row, counted from 0, shape (rows,).
        seed: of the order.
        lengths: of each row; with them rows of one optimiser step are of like length.
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
    """So many of the rows, each as often as any other or once more."""
    whole, rest = divmod(number, len(rows))
    return np.concatenate([np.tile(rows, whole), random.permutation(rows)[:rest]])


class LongestFirstSampler(Sampler[int]):
    """Rows by falling length, for evaluation: next to nothing is padded, and what does not fit into memory fails at once.

    Args:
        lengths: of each row.
    """

    def __init__(self, lengths: list[int]) -> None:
        self.order = np.argsort(-np.asarray(lengths), kind="stable")

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order.tolist())
