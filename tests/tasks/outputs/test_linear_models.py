"""Linear models of the baseline learn where classes are many, and say where they did not converge."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from hf_finetune.tasks.outputs import linear_models as module
from hf_finetune.tasks.outputs.linear_models import logistic_regression, one_vs_rest, ridge_regression, tolerance


def one_word_a_class(classes, rows_a_class, weight=1.0):
    """Features of texts of a word of their class: a column each."""
    labels = np.repeat(np.arange(classes), rows_a_class)
    return csr_matrix((np.full(len(labels), weight), (np.arange(len(labels)), labels))), labels


def test_many_classes_of_few_rows_are_learned(capsys):
    """With the tolerance of few classes the first step would be the last: every answer would be the same class."""
    features, labels = one_word_a_class(100, 3, weight=0.09)
    assert 1 / 100 * 0.09 < 1e-3
    answer = logistic_regression(features, labels, 10.0, 100)
    assert (answer(features).argmax(axis=1) == labels).mean() == 1.0
    assert "did not converge" not in capsys.readouterr().out


def test_a_model_that_did_not_converge_says_so(capsys, monkeypatch):
    features, labels = one_word_a_class(3, 20)
    monkeypatch.setattr(module, "tolerance", lambda *_: 1.0)
    logistic_regression(features, labels, 1.0, 3)
    assert "did not converge (0 of 300 steps)" in capsys.readouterr().out
    monkeypatch.setattr(module, "tolerance", lambda *_: 1e-9)
    monkeypatch.setattr(module, "MOST_STEPS", 2)
    logistic_regression(features, labels, 1.0, 3)
    assert "did not converge (2 of 2 steps)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("classes", "weight", "expected"), [(2, 1.0, 1e-3), (50, 1.0, 1e-3), (200, 1.0, 5e-4), (2, 0.01, 5e-4)]
)
def test_the_tolerance_is_small_beside_what_there_is_to_learn(classes, weight, expected):
    features, labels = one_word_a_class(classes, 3, weight)
    assert tolerance(features, labels) == pytest.approx(expected)
    assert tolerance(-features.toarray(), labels) == pytest.approx(expected)


def test_classes_without_rows_are_never_answered():
    features, labels = one_word_a_class(2, 10)
    logits = logistic_regression(features, labels, 1.0, 4)(features)
    assert logits.shape == (20, 4)
    assert (logits[:, 2:] == np.log(1e-12)).all()


@pytest.mark.filterwarnings("error")
def test_a_class_of_all_rows_or_none_is_always_answered_so():
    features, own = one_word_a_class(2, 10)
    labels = np.stack([own, np.ones(20), np.zeros(20)], axis=1)
    logits = one_vs_rest(features, labels, 10.0)(features)
    assert ((logits > 0) == labels).all()
    assert logits[0, 1] == pytest.approx(-logits[0, 2])


def test_numbers_are_fitted():
    features = np.random.default_rng(0).normal(size=(100, 3))
    numbers = features @ np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    found = ridge_regression(features, numbers, 1e3)(features)
    assert found == pytest.approx(numbers, abs=1e-2)
    assert ridge_regression(features, numbers[:, :1], 1e3)(features).shape == (100, 1)
