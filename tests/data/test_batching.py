"""Length groups and balanced classes: which rows an epoch has, in the same order in any number of processes."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from hf_finetune.data.batching import EpochSampler, longest_first

LENGTHS = np.random.default_rng(0).integers(3, 120, size=1000).tolist()


def test_every_row_comes_once_and_epochs_differ():
    sampler = EpochSampler(1, 32, lengths=LENGTHS)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(1000))
    assert first != second


def test_the_order_depends_on_seed_and_epoch_alone():
    sampler = EpochSampler(1, 32, lengths=LENGTHS)
    first = list(sampler)
    torch.manual_seed(99)  # another process, whose generator has moved
    torch.rand(7)
    assert list(sampler) == first
    assert list(EpochSampler(2, 32, lengths=LENGTHS)) != first


def test_little_is_padded():
    def padded(order):
        steps = [order[i : i + 32] for i in range(0, 1000, 32)]
        return sum(max(LENGTHS[i] for i in step) * len(step) for step in steps)

    grouped = padded(list(EpochSampler(1, 32, lengths=LENGTHS)))
    assert grouped < 1.15 * sum(LENGTHS)
    assert padded(list(range(1000))) > 1.7 * sum(LENGTHS)


def test_evaluation_takes_every_row_once_and_the_longest_first():
    assert longest_first([3, 9, 3, 12, 1]) == [3, 1, 0, 2, 4]


# Balanced classes

CLASSES = np.repeat([0, 1, 2], [70, 25, 5])


def epoch(sampler: EpochSampler, number: int) -> list[int]:
    sampler.set_epoch(number)
    return list(sampler)


@pytest.mark.parametrize(
    "lengths", [None, np.random.default_rng(0).integers(1, 60, 100).tolist()], ids=["plain", "by length"]
)
def test_every_class_is_seen_equally_often(lengths):
    sampler = EpochSampler(3, 20, lengths=lengths, classes=CLASSES)
    for number in range(3):
        drawn = epoch(sampler, number)
        assert len(drawn) == len(sampler) == 100
        assert sorted(np.bincount(CLASSES[drawn])) == [33, 33, 34]


def test_rows_of_a_class_are_seen_equally_often_but_for_one():
    times = np.bincount(epoch(EpochSampler(3, 20, classes=CLASSES), 0), minlength=100)
    for label in range(3):
        assert np.ptp(times[label == CLASSES]) <= 1
    assert times[CLASSES == 0].max() == 1


def test_the_order_is_a_function_of_seed_and_epoch():
    first = epoch(EpochSampler(3, 20, classes=CLASSES), 2)
    np.random.seed(5)
    torch.manual_seed(5)
    assert epoch(EpochSampler(3, 20, classes=CLASSES), 2) == first
    assert epoch(EpochSampler(3, 20, classes=CLASSES), 1) != first
    assert epoch(EpochSampler(4, 20, classes=CLASSES), 2) != first


def test_classes_are_mixed_within_the_epoch():
    drawn = CLASSES[epoch(EpochSampler(3, 20, classes=CLASSES), 0)]
    assert all(len(set(drawn[start : start + 20])) == 3 for start in range(0, 100, 20))


def test_rows_of_a_step_are_of_like_length_where_lengths_are_given():
    lengths = np.random.default_rng(0).integers(1, 60, 2000)
    sampler = EpochSampler(3, 10, lengths=lengths.tolist(), classes=np.arange(2000) % 4)
    steps = lengths[epoch(sampler, 0)].reshape(-1, 10)
    assert np.ptp(steps, axis=1).mean() < 10


def test_drawing_from_a_million_rows_takes_no_time():
    classes = np.zeros(1_000_000, dtype=np.int64)
    classes[:3] = 1
    began = time.perf_counter()
    epoch(EpochSampler(0, 20, classes=classes), 0)
    assert time.perf_counter() - began < 5


# Empty rows

EMPTY = np.arange(100) % 10 < 7  # 70 of 100


@pytest.mark.parametrize("lengths", [None, LENGTHS[:100]], ids=["plain", "by length"])
def test_empty_rows_are_read_in_one_of_three_epochs(lengths):
    sampler = EpochSampler(3, 20, lengths=lengths, empty=EMPTY, every=3)
    times = np.zeros((6, 100), dtype=int)
    for number in range(6):
        drawn = epoch(sampler, number)
        assert len(drawn) == len(sampler) == 30 + 24
        np.add.at(times[number], drawn, 1)
    assert (times[:, ~EMPTY] == 1).all()
    assert times.max() == 1
    assert (times[:3, EMPTY].sum(axis=0) >= 1).all()
    assert times[:, EMPTY].sum(axis=0).max() <= 3  # 72 places in three epochs for 70 rows


def test_the_order_with_empty_rows_is_a_function_of_seed_and_epoch():
    first = epoch(EpochSampler(3, 20, empty=EMPTY, every=3), 1)
    assert epoch(EpochSampler(3, 20, empty=EMPTY, every=3), 1) == first
    assert set(epoch(EpochSampler(3, 20, empty=EMPTY, every=3), 2)) != set(first)
    assert epoch(EpochSampler(4, 20, empty=EMPTY, every=3), 1) != first


def test_all_rows_are_read_where_every_epoch_reads_the_empty_ones():
    assert sorted(epoch(EpochSampler(3, 20, lengths=LENGTHS[:100], empty=EMPTY, every=1), 0)) == list(range(100))
