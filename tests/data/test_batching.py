"""Length groups: every row once an epoch, like lengths together, the same order in any number of processes."""

from __future__ import annotations

import numpy as np
import torch

from hf_finetune.data.batching import LengthGroupedSampler, LongestFirstSampler

LENGTHS = np.random.default_rng(0).integers(3, 120, size=1000).tolist()


def test_every_row_comes_once_and_epochs_differ():
    sampler = LengthGroupedSampler(LENGTHS, step_rows=32, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(1000))
    assert first != second


def test_the_order_depends_on_seed_and_epoch_alone():
    sampler = LengthGroupedSampler(LENGTHS, step_rows=32, seed=1)
    first = list(sampler)
    torch.manual_seed(99)  # another process, whose generator has moved
    torch.rand(7)
    assert list(sampler) == first
    assert list(LengthGroupedSampler(LENGTHS, step_rows=32, seed=2)) != first


def test_little_is_padded():
    def padded(order):
        steps = [order[i : i + 32] for i in range(0, 1000, 32)]
        return sum(max(LENGTHS[i] for i in step) * len(step) for step in steps)

    grouped = padded(list(LengthGroupedSampler(LENGTHS, step_rows=32, seed=1)))
    assert grouped < 1.15 * sum(LENGTHS)
    assert padded(list(range(1000))) > 1.7 * sum(LENGTHS)


def test_evaluation_takes_every_row_once_and_the_longest_first():
    sampler = LongestFirstSampler([3, 9, 3, 12, 1])
    assert list(sampler) == [3, 1, 0, 2, 4]
    assert len(sampler) == 5
