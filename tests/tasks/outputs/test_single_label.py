"""One class a row: values computed by hand, answers, confusions."""

from __future__ import annotations

import numpy as np
import pytest

from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.tasks.outputs import SingleLabel
from hf_finetune.tasks.outputs.single_label import confusion

NAMES = ["a", "b", "c"]
OUTPUT = SingleLabel(NAMES)

# Six rows of three classes; the predictions are 0 0 1 1 2 0.
LABELS = np.array([0, 0, 0, 1, 2, 2])
RAW = np.log([[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.6, 0.1, 0.3]])


def test_values_computed_by_hand():
    found = metrics_of(OUTPUT, RAW, LABELS)
    assert found["accuracy"] == pytest.approx(4 / 6)
    # Precision: 2/3, 1/2, 1; recall: 2/3, 1, 1/2; F1: 2/3, 2/3, 2/3.
    assert found["precision_macro"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["recall_macro"] == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert found["balanced_accuracy"] == found["recall_macro"]
    assert found["f1_macro"] == pytest.approx(2 / 3)
    assert found["f1_weighted"] == pytest.approx(2 / 3)
    assert found["loss"] == pytest.approx(-np.mean(np.log([0.8, 0.5, 0.2, 0.8, 0.7, 0.3])))
    assert {type(value) for value in found.values()} == {float}


def test_perfect_predictions_have_1_everywhere():
    found = metrics_of(OUTPUT, 100 * np.eye(3)[LABELS], LABELS)
    assert found.pop("loss") == pytest.approx(0, abs=1e-9)
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_area_of_two_classes_computed_by_hand():
    # Scores of class 1: 0.1 and 0.6 for the rows of class 0, 0.5 and 0.9 for those of class 1: 3 of 4 pairs in order.
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.1, 0.9]])
    found = metrics_of(SingleLabel(["a", "b"]), np.log(probabilities), np.array([0, 0, 1, 1]))
    assert found["auroc"] == pytest.approx(0.75)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 0, 1], [2] * 6], ids=["two of three", "one of three"])
def test_area_is_left_out_where_a_class_is_absent(labels):
    found = metrics_of(OUTPUT, RAW, np.array(labels))
    assert set(found) == set(OUTPUT.METRICS) - {"auroc"}
    assert all(np.isfinite(value) for value in found.values())


def test_a_class_that_is_only_predicted_does_not_enter_the_macro_averages():
    found = metrics_of(OUTPUT, np.eye(3)[[0, 0, 1, 2]], np.array([0, 0, 1, 1]))
    assert found["recall_macro"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["f1_macro"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_class_without_rows_has_zeros():
    found = OUTPUT.per_label(OUTPUT.statistics(np.eye(3)[[0, 1]], np.array([0, 1])))
    assert found["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert list(found) == NAMES


@pytest.mark.parametrize(
    ("labels", "share"), [([0, 1, 1, 2], 0.5), ([0, 0, 0], 1.0), ([3, 3, 1], 2 / 3), ([0, 1], 0.5)]
)
def test_the_floor_is_the_share_of_the_most_frequent_class(labels, share):
    output, truth = SingleLabel(list("abcd")), np.array(labels)
    assert metrics_of(output, output.constant(truth), truth)["accuracy"] == pytest.approx(share)


def test_probabilities_of_logits():
    found = SingleLabel(["a", "b"], 5.0).probabilities(np.array([[0.0, np.log(3.0)], [1e4, 1e4], [-1e4, 1e4]]))
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]])


def test_answers_are_names_with_calibrated_probabilities():
    raw = np.array([[2.0, -1.0, -1.0], [-1.0, 3.0, 1.0]])
    assert OUTPUT.answers(raw)["prediction"] == ["a", "b"]
    assert OUTPUT.answers(raw)["probability"][0] == pytest.approx(np.exp(2) / (np.exp(2) + 2 * np.exp(-1)))
    warm = SingleLabel(NAMES, 2.0)
    assert warm.answers(raw)["probability"][0] == pytest.approx(np.e / (np.e + 2 * np.exp(-0.5)))
    assert metrics_of(warm, RAW, LABELS) == metrics_of(OUTPUT, RAW, LABELS)
    assert warm.top(raw, 2)["top_labels"] == [["a", "b"], ["b", "c"]]
    answer = warm.answer(raw[1], 2)
    assert (answer.prediction, answer.more) == ("b", 1)
    assert [(bar.name, bar.chosen) for bar in answer.bars] == [("b", True), ("c", False)]


def test_the_column_of_truth_is_read_back():
    assert OUTPUT.truth(np.array([0, 2])) == ["a", "c"]
    assert OUTPUT.read_truth(["a", "c"]).tolist() == [0, 2]


def test_classes_that_are_taken_for_each_other():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    answered = np.array([0, 0, 1, 1, 1, 0, 2])
    found = confusion(NAMES, labels, answered)
    assert found["matrix"] == [[2, 2, 0], [1, 1, 0], [0, 0, 1]]
    assert found["pairs"] == [
        {"label": "a", "prediction": "b", "rows": 2, "share": 0.5},
        {"label": "b", "prediction": "a", "rows": 1, "share": 0.5},
    ]
    assert confusion([str(i) for i in range(201)], labels, answered)["matrix"] == []
