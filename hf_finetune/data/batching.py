"""Batches of texts of like length, the same in any number of processes."""

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
