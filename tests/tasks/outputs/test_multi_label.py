"""Several classes a row: values computed by hand, answers, thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as sklearn_metrics

from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.tasks.outputs import MultiLabel
from hf_finetune.tasks.outputs.multi_label import tune_thresholds

NAMES = ["a", "b", "c"]
RAW = np.array([[2.0, -1.0, -1.0], [0.5, 0.5, -3.0], [-2.0, -2.0, -2.0], [-1.0, 3.0, 1.0]])
LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=float)


def test_values_computed_by_hand():
    found = metrics_of(MultiLabel(NAMES), RAW, LABELS)
    # Answered: 5 classes, all of them right, of 6 true ones.
    assert (found["precision_micro"], found["recall_micro"]) == (1.0, pytest.approx(5 / 6))
    assert found["f1_micro"] == pytest.approx(2 * 5 / (5 + 6))
    assert found["f1_macro"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert found["accuracy"] == 0.75
    assert found["hamming_loss"] == pytest.approx(1 / 12)


def test_answers_are_lists_of_names():
    output = MultiLabel(NAMES)
    answers = output.answers(RAW)
    assert answers["prediction"] == [["a"], ["a", "b"], [], ["b", "c"]]
    assert answers["probability"][3] == pytest.approx([1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-1))])
    assert output.truth(LABELS) == [["a"], ["a", "b"], ["c"], ["b", "c"]]
    assert output.read_truth(output.truth(LABELS)).tolist() == LABELS.tolist()


def test_thresholds_decide_and_are_shown():
    output = MultiLabel(NAMES, [0.9, 0.1, 0.1])
    assert output.answers(RAW)["prediction"] == [["b", "c"], ["b"], ["b", "c"], ["b", "c"]]
    figures = output.per_label(output.statistics(RAW, LABELS))["a"]
    assert (figures["threshold"], figures["support"]) == (0.9, 2)
    answer = output.answer(RAW[1], 2)
    assert answer.prediction == "b"
    assert [(bar.name, bar.chosen, bar.threshold) for bar in answer.bars] == [("a", False, 0.9), ("b", True, 0.1)]


def test_tuning_gives_another_output():
    output = MultiLabel(NAMES)
    tuned = output.tune(RAW, LABELS, None)
    assert output.thresholds == []
    assert len(set(tuned.thresholds)) == 1
    assert tuned.tuned() == {"thresholds": tuned.thresholds}


def test_a_rare_class_gets_a_lower_threshold():
    random = np.random.default_rng(0)
    labels = (random.random((2000, 2)) < [0.5, 0.02]).astype(float)
    scores = expit(3 * (labels - 0.5) + random.normal(size=labels.shape) + np.array([0, -2.5]))
    thresholds = tune_thresholds(scores, labels, each=True)
    for index, threshold in enumerate(thresholds):
        best = max(
            sklearn_metrics.f1_score(labels[:, index], scores[:, index] >= cut) for cut in np.linspace(0.01, 0.99, 99)
        )
        found = sklearn_metrics.f1_score(labels[:, index], scores[:, index] >= threshold)
        assert found >= best - 1e-9
    assert thresholds[1] < thresholds[0]


def test_one_threshold_for_all_classes_gives_the_best_micro_f1():
    random = np.random.default_rng(0)
    labels = (random.random((2000, 3)) < [0.5, 0.1, 0.02]).astype(float)
    scores = expit(3 * (labels - 0.5) + random.normal(size=labels.shape) + np.array([0, -1, -2.5]))
    thresholds = tune_thresholds(scores, labels)
    assert len(set(thresholds)) == 1

    def micro(cut):
        return sklearn_metrics.f1_score(labels, scores >= cut, average="micro")

    assert micro(thresholds[0]) >= max(micro(cut) for cut in np.linspace(0.01, 0.99, 99)) - 1e-9


def test_a_class_without_enough_rows_takes_the_common_threshold():
    scores = np.array([[0.9, 0.2], [0.8, 0.3], [0.7, 0.1], [0.6, 0.6], [0.65, 0.1], [0.1, 0.1]])
    labels = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [1, 0], [0, 1]])
    own, common = tune_thresholds(scores, labels, each=True)
    assert own == pytest.approx((0.6 + 0.1) / 2)
    # Of all twelve: answering six, five of them rightly, gives 10/12; answering the four above 0.6 gives 8/10.
    assert common == pytest.approx((0.6 + 0.3) / 2)


def test_equal_probabilities_are_answered_together():
    scores, labels = np.full((6, 1), 0.5), np.array([[1], [1], [1], [1], [1], [0]])
    (threshold,) = tune_thresholds(scores, labels)
    assert threshold < 0.5


def test_the_floor_is_the_most_frequent_class_for_every_row():
    always_b = np.tile([0, 1, 0], (4, 1))
    labels = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0]])
    expected = sklearn_metrics.f1_score(labels, always_b, average="micro")
    output = MultiLabel(NAMES, [0.2, 0.5, 0.9])
    assert metrics_of(output, output.constant(labels), labels)["f1_micro"] == pytest.approx(expected)
