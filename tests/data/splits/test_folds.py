"""Folds and held-out rows: whole, disjoint, stratified, by whole groups, by time; the same every time."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hf_finetune.data.splits.folds import deal_groups, fold_of, groups_out, latest, stratified_out
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs import MultiLabel, Regression


def some_rows(rows: int = 600, groups: int = 60, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Labels of uneven frequency, and groups of uneven size that have more of one class than of others."""
    random = np.random.default_rng(3)
    group = random.integers(0, groups, rows) * random.integers(0, 2, rows) + random.integers(0, groups, rows) // 3
    labels = (random.geometric(0.5, rows) - 1 + (random.random(rows) < 0.3) * group) % classes
    return labels, group


def share_by_class(labels: np.ndarray, out: np.ndarray) -> np.ndarray:
    return np.bincount(labels[out], minlength=labels.max() + 1) / np.bincount(labels)


@pytest.mark.parametrize("num_folds", [2, 5, 7])
def test_folds_are_even_in_rows_and_in_classes(num_folds):
    labels, _ = some_rows()
    folds = fold_of(labels, None, num_folds)
    sizes = np.bincount(folds, minlength=num_folds)
    assert sizes.max() - sizes.min() <= 1
    table = np.array([np.bincount(labels[folds == fold], minlength=4) for fold in range(num_folds)])
    assert (table.max(axis=0) - table.min(axis=0)).max() <= 1


@pytest.mark.parametrize("num_folds", [2, 5, 7])
def test_no_group_is_in_two_folds_and_classes_are_near_even(num_folds):
    labels, groups = some_rows()
    folds = fold_of(labels, groups, num_folds)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in np.unique(groups))
    for fold in range(num_folds):
        assert share_by_class(labels, folds == fold) == pytest.approx(np.full(4, 1 / num_folds), abs=0.06)


def test_groups_are_dealt_about_as_evenly_as_scikit_learn_does():
    from sklearn.model_selection import StratifiedGroupKFold

    labels, groups = some_rows()
    theirs = np.empty(len(labels), dtype=int)
    for fold, (_, out) in enumerate(StratifiedGroupKFold(5).split(labels, labels, groups)):
        theirs[out] = fold

    def unevenness(folds):
        return np.mean([np.abs(share_by_class(labels, folds == fold) - 0.2).mean() for fold in range(5)])

    assert unevenness(fold_of(labels, groups, 5)) <= unevenness(theirs) * 1.25


def test_folds_are_the_same_every_time_and_not_in_the_order_of_the_file():
    labels, groups = some_rows()
    np.random.seed(1)
    first = [fold_of(labels, None, 5), fold_of(labels, groups, 5)]
    np.random.seed(2)
    assert all(
        np.array_equal(a, b) for a, b in zip(first, [fold_of(labels, None, 5), fold_of(labels, groups, 5)], strict=True)
    )
    assert not np.array_equal(first[0][labels == 0][:5], np.arange(5))


def test_names_of_groups_do_as_well_as_numbers():
    labels, groups = some_rows()
    names = [f"author {group:03d}" for group in groups]
    assert np.array_equal(fold_of(labels, names, 4), fold_of(labels, groups, 4))


def test_several_classes_a_row_are_dealt_by_their_rarest():
    labels = np.zeros((100, 3))
    labels[:, 0] = 1
    labels[::10, 2] = 1
    folds = fold_of(MultiLabel(list("abc")).strata(labels), None, 5)
    assert [labels[folds == fold, 2].sum() for fold in range(5)] == [2] * 5


def test_numbers_are_dealt_by_their_size():
    values = np.random.default_rng(0).permutation(200)[:, None].astype(float)
    folds = fold_of(Regression(["x"]).strata(values), None, 4)
    means = [values[folds == fold].mean() for fold in range(4)]
    assert np.ptp(means) < 5


@pytest.mark.parametrize(
    ("groups", "words"), [(None, "3 rows do not make 5 folds"), ([0, 0, 1], "2 groups do not make 5 folds")]
)
def test_more_folds_than_rows_or_groups_are_refused(groups, words):
    with pytest.raises(UserError, match=words):
        fold_of([0, 1, 0], groups, 5)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Few rows of few classes and groups, some of which are alone: labels, groups counted from 0, and the generator."""
    random = np.random.default_rng(seed)
    rows = int(random.integers(2, 60))
    labels, groups = random.integers(0, 4, rows), random.integers(0, random.integers(1, 10), rows)
    return labels, np.unique(groups, return_inverse=True)[1], random


@pytest.mark.parametrize("seed", range(60))
def test_groups_that_go_out_leave_every_class_and_nothing_of_themselves(seed):
    labels, groups, random = drawn(seed)
    out = groups_out(labels, groups, float(random.uniform(0.05, 0.6)), random, keep_classes=True)
    assert not set(groups[out]) & set(groups[~out])
    assert set(labels[~out]) == set(labels)
    if not out.any():  # each of them stays for some class: there are no more of them than classes
        assert len(set(groups)) <= len(set(labels))


@pytest.mark.parametrize("seed", range(40))
def test_every_fold_has_rows(seed):
    labels, groups, random = drawn(seed)
    num_folds = int(random.integers(2, 5))
    if len(set(groups)) >= num_folds:
        assert set(fold_of(labels, groups, num_folds)) == set(range(num_folds))


def test_about_the_share_of_each_class_goes_out_by_groups():
    labels, groups = some_rows()
    groups = np.unique(groups, return_inverse=True)[1]
    out = groups_out(labels, groups, 0.2, np.random.default_rng(0), keep_classes=True)
    assert out.mean() == pytest.approx(0.2, abs=0.02)
    assert share_by_class(labels, out) == pytest.approx(np.full(4, 0.2), abs=0.06)


def test_of_two_equal_groups_one_goes_out_though_that_is_more_than_the_share():
    out = groups_out(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 0.1, np.random.default_rng(0), keep_classes=True)
    assert out.sum() == 2


def test_nothing_goes_out_where_every_group_is_a_class_of_its_own():
    groups = np.array([0, 0, 1, 1])
    assert not groups_out(groups, groups, 0.5, np.random.default_rng(0), keep_classes=True).any()
    assert groups_out(groups, groups, 0.5, np.random.default_rng(0), keep_classes=False).sum() == 2


def test_without_groups_each_class_gives_its_share():
    labels = np.repeat([0, 1, 2], [100, 10, 1])
    out = stratified_out(labels, 0.2, np.random.default_rng(0))
    assert np.bincount(labels[out], minlength=3).tolist() == [20, 2, 0]


def test_the_latest_rows_go_out_and_a_moment_stays_whole():
    times = np.array([5.0, 1, 2, 9, 3, 4, 6, 7, 8, 0])
    assert np.flatnonzero(latest(times, 0.2)).tolist() == [3, 8]
    assert times[latest(np.floor(times / 4), 0.3)].tolist() == [9, 8]
    assert not latest(np.ones(4), 0.5).any()


def test_a_million_rows_are_dealt_in_seconds():
    random = np.random.default_rng(0)
    labels, groups = random.integers(0, 20, 1_000_000), random.integers(0, 50_000, 1_000_000)
    began = time.perf_counter()
    fold_of(labels, None, 5)
    deal_groups(labels, groups, np.array([0.9, 0.1]), random)
    assert time.perf_counter() - began < 20
