"""Metrics of many resamples at once are those of ``Target.metrics``, on the rows as they are and repeated by weight."""

from __future__ import annotations

import numpy as np
import pytest

from hf_finetune.tasks.outputs.targets import MultiLabel, Regression, SingleLabel

NAMES = ["a", "b", "c", "d"]


def cases():
    """Target, logits and labels of random rows; ``coarse`` scores tie, ``rare`` leaves a class without rows or answers."""
    random = np.random.default_rng(0)
    for rows in (7, 40, 300):
        for kind in ("fine", "coarse", "rare"):
            for width in (2, 4):
                logits = random.normal(size=(rows, width)) * 2
                labels = random.integers(0, width, rows)
                several = (random.random((rows, width)) < 0.4).astype(float)
                if kind == "coarse":
                    logits = np.round(logits / 2)
                if kind == "rare":
                    labels[labels == 0] = 1
                    several[:, 0], logits[:, 1] = 0, -9
                yield f"single-{rows}-{kind}-{width}", SingleLabel(NAMES[:width]), logits, labels
                yield (
                    f"multi-{rows}-{kind}-{width}",
                    MultiLabel(NAMES[:width], [0.3, 0.5, 0.6, 0.7][:width]),
                    logits,
                    several,
                )
        for width in (1, 3):
            truth = random.normal(size=(rows, width)) * 3 + 100
            guess = truth + random.normal(size=truth.shape)
            yield f"regression-{rows}-{width}", Regression(NAMES[:width]), guess, truth
            yield f"regression-{rows}-{width}-ties", Regression(NAMES[:width]), np.round(guess), np.round(truth)
            yield f"regression-{rows}-{width}-flat", Regression(NAMES[:width]), np.ones_like(guess), truth


CASES = {name: case for name, *case in cases()}


def assert_same(found, index, expected):
    defined = {name: values[index] for name, values in found.items() if not np.isnan(values[index])}
    assert defined == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore")  # scikit-learn speaks of classes without rows
@pytest.mark.parametrize("name", CASES)
def test_weights_of_one_and_whole_numbers(name):
    target, logits, labels = CASES[name]
    random = np.random.default_rng(1)
    weights = random.integers(0, 3, size=(5, len(labels)))
    weights[0] = 1
    weights[:, 0] = np.maximum(weights[:, 0], 1)
    found = target.weighted(logits, labels)(weights)
    for index, row_weights in enumerate(weights):
        rows = np.repeat(np.arange(len(labels)), row_weights)
        assert_same(found, index, target.metrics(logits[rows], labels[rows]))


def test_a_resample_without_a_class_has_no_area_under_the_curve():
    logits, labels = np.array([[0.0, 1], [1, 0], [0, 2]]), np.array([1, 0, 1])
    found = SingleLabel(["a", "b"]).weighted(logits, labels)(np.array([[1, 1, 1], [1, 0, 2]]))
    assert found["auroc"][0] == 1
    assert np.isnan(found["auroc"][1])
    assert found["accuracy"].tolist() == [1, 1]
