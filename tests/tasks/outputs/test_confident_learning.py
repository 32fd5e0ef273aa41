"""Mislabelled rows are found from probabilities of a model that has not seen them."""

from __future__ import annotations

import numpy as np

from hf_finetune.tasks.outputs.confident_learning import find_label_errors


def test_a_row_is_suspicious_where_another_class_is_as_probable_as_for_its_own_rows():
    probabilities = np.array(
        [
            [0.9, 0.1, 0.0],
            [0.7, 0.3, 0.0],
            [0.2, 0.8, 0.0],
            [0.1, 0.9, 0.0],
            [0.05, 0.95, 0.0],  # given a, looks like b
            [0.45, 0.55, 0.0],  # given a: too close to call
            [0.85, 0.15, 0.0],  # given b, looks like a, less clearly
            [0.3, 0.0, 0.7],  # given a: c has no rows, and is not sure enough
            [0.1, 0.0, 0.9],  # given a: c has no rows, and is sure
        ]
    )
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 0, 0])
    rows, suggested, margin = find_label_errors(probabilities, labels)
    assert rows.tolist() == [4, 8, 6]
    assert suggested.tolist() == [1, 2, 0]
    assert np.allclose(margin, [0.9, 0.8, 0.7])


def test_flipped_labels_are_found():
    random = np.random.default_rng(0)
    true = random.integers(0, 3, 600)
    logits = 4 * np.eye(3)[true] + random.normal(size=(600, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = true.copy()
    labels[:30] = (true[:30] + 1) % 3
    rows, suggested, _ = find_label_errors(probabilities, labels)
    assert len(set(range(30)) & set(rows)) >= 24
    assert len(set(rows) - set(range(30))) <= 6
    assert (suggested == true[rows]).mean() > 0.9


def test_no_row_may_be_suspicious():
    assert [len(part) for part in find_label_errors(np.eye(3), np.arange(3))] == [0, 0, 0]
