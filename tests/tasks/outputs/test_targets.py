"""What the head's numbers mean, by kind of label: values that are computed by hand and by scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from hf_finetune.tasks.outputs.multi_label import majority_floor, sigmoid, tune_thresholds
from hf_finetune.tasks.outputs.regression import regression_metrics
from hf_finetune.tasks.outputs.targets import (
    MultiLabel,
    Regression,
    SingleLabel,
    make_target,
    metric_function,
    target_of,
)

NAMES = ["a", "b", "c"]
LOGITS = np.array([[2.0, -1.0, -1.0], [0.5, 0.5, -3.0], [-2.0, -2.0, -2.0], [-1.0, 3.0, 1.0]])
LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=float)


def test_one_class_a_row():
    target = SingleLabel(NAMES)
    assert target.answers(LOGITS)["prediction"] == ["a", "a", "a", "b"]
    assert target.answers(LOGITS)["probability"][0] == pytest.approx(np.exp(2) / (np.exp(2) + 2 * np.exp(-1)))
    assert target.truth(np.array([0, 2])) == ["a", "c"]
    assert target.floor(np.array([0, 0, 1, 2])) == {"majority_accuracy": 0.5}


def test_several_classes_a_row():
    target = MultiLabel(NAMES)
    answers = target.answers(LOGITS)
    assert answers["prediction"] == [["a"], ["a", "b"], [], ["b", "c"]]
    assert answers["probability"][3] == pytest.approx([1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-1))])
    assert target.truth(LABELS) == [["a"], ["a", "b"], ["c"], ["b", "c"]]
    found = target.metrics(LOGITS, LABELS)
    # Answered: 5 classes, all of them right, of 6 true ones.
    assert (found["precision_micro"], found["recall_micro"]) == (1.0, pytest.approx(5 / 6))
    assert found["f1_micro"] == pytest.approx(2 * 5 / (5 + 6))
    assert found["f1_macro"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert found["accuracy"] == 0.75
    assert found["hamming_loss"] == pytest.approx(1 / 12)
    probabilities = 1 / (1 + np.exp(-LOGITS))
    assert found["average_precision"] == pytest.approx(
        sklearn_metrics.average_precision_score(LABELS, probabilities, average="micro")
    )
    assert found["auroc"] == pytest.approx(sklearn_metrics.roc_auc_score(LABELS, probabilities))
    assert found["loss"] == pytest.approx(sklearn_metrics.log_loss(LABELS.ravel(), probabilities.ravel()))


def test_thresholds_decide_and_are_shown():
    target = MultiLabel(NAMES, [0.9, 0.1, 0.1])
    assert target.answers(LOGITS)["prediction"] == [["b", "c"], ["b"], ["b", "c"], ["b", "c"]]
    assert target.by_label(LOGITS, LABELS)["a"]["threshold"] == 0.9
    assert target.by_label(LOGITS, LABELS)["a"]["support"] == 2


def test_a_rare_class_gets_a_lower_threshold():
    random = np.random.default_rng(0)
    labels = (random.random((2000, 2)) < [0.5, 0.02]).astype(float)
    scores = sigmoid(3 * (labels - 0.5) + random.normal(size=labels.shape) + np.array([0, -2.5]))
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
    scores = sigmoid(3 * (labels - 0.5) + random.normal(size=labels.shape) + np.array([0, -1, -2.5]))
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


def test_the_floor_of_several_classes():
    always_b = np.tile([0, 1, 0], (4, 1))
    labels = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0]])
    expected = sklearn_metrics.f1_score(labels, always_b, average="micro")
    assert majority_floor(labels) == {"majority_f1_micro": pytest.approx(expected)}


def test_numbers():
    target = Regression(["x", "y"])
    logits = np.array([[1.0, 10.0], [2.0, 30.0], [4.0, 20.0]])
    labels = np.array([[1.0, 20.0], [3.0, 30.0], [4.0, 10.0]])
    found = target.metrics(logits, labels)
    assert found["rmse"] == pytest.approx((np.sqrt(1 / 3) + np.sqrt(200 / 3)) / 2)
    assert found["mae"] == pytest.approx((1 / 3 + 20 / 3) / 2)
    pearson = [stats.pearsonr(logits[:, i], labels[:, i])[0] for i in range(2)]
    spearman = [stats.spearmanr(logits[:, i], labels[:, i])[0] for i in range(2)]
    assert (found["pearson"], found["spearman"]) == (pytest.approx(np.mean(pearson)), pytest.approx(np.mean(spearman)))
    assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(labels, logits))
    assert target.by_label(logits, labels)["y"]["mae"] == pytest.approx(20 / 3)
    assert target.answers(logits) == {"prediction": logits.tolist()}
    assert Regression(["x"]).answers(logits[:, :1]) == {"prediction": [1.0, 2.0, 4.0]}
    assert target.floor(labels)["mean_rmse"] == pytest.approx(labels.std(axis=0).mean())


def test_standardised_numbers_are_given_their_units_back():
    target = Regression(["x"], [100.0], [10.0])
    assert target.values(np.array([[0.0], [-1.5]])).tolist() == [[100.0], [85.0]]


def test_figures_that_are_not_defined_are_left_out():
    same = np.ones((3, 1))
    assert regression_metrics(same, same * 2).keys() == {"rmse", "mae", "mse", "loss"}
    assert "pearson" not in regression_metrics(same, np.array([[1.0], [2.0], [3.0]]))


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (None, SingleLabel),
        ("single_label_classification", SingleLabel),
        ("multi_label_classification", MultiLabel),
        ("regression", Regression),
    ],
)
def test_a_saved_model_says_what_it_answers(problem, kind):
    settings = SimpleNamespace(problem_type=problem, id2label={0: "a", 1: "b"}, thresholds=[0.2, 0.3])
    target = target_of(settings)
    assert isinstance(target, kind)
    assert target.names == ["a", "b"]
    assert make_target(problem, ["a", "b"]) == kind(["a", "b"])


def test_the_first_metric_is_what_the_trainer_gets():
    for target, labels in ((MultiLabel(NAMES), LABELS), (Regression(NAMES), LABELS)):
        evaluation = SimpleNamespace(predictions=LOGITS, label_ids=labels)
        found = metric_function(target)(evaluation)
        assert next(iter(target.METRICS)) in found
        assert "loss" not in found
