"""Numbers: values computed by hand, units, and figures that are not defined."""

from __future__ import annotations

import numpy as np
import pytest

from hf_finetune.errors import UserError
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.tasks.outputs import Regression

RAW = np.array([[1.0, 10.0], [2.0, 30.0], [4.0, 20.0]])
LABELS = np.array([[1.0, 20.0], [3.0, 30.0], [4.0, 10.0]])


def test_values_computed_by_hand():
    output = Regression(["x", "y"])
    found = metrics_of(output, RAW, LABELS)
    assert found["rmse"] == pytest.approx((np.sqrt(1 / 3) + np.sqrt(200 / 3)) / 2)
    assert found["mae"] == pytest.approx((1 / 3 + 20 / 3) / 2)
    figures = output.per_label(output.statistics(RAW, LABELS))
    assert figures["y"]["mae"] == pytest.approx(20 / 3)
    assert figures["x"] == pytest.approx(metrics_of(Regression(["x"]), RAW[:, :1], LABELS[:, :1]))
    assert metrics_of(output, output.constant(LABELS), LABELS)["rmse"] == pytest.approx(LABELS.std(axis=0).mean())


def test_answers_are_numbers():
    assert Regression(["x", "y"]).answers(RAW) == {"prediction": RAW.tolist()}
    one = Regression(["x"])
    assert one.answers(RAW[:, :1]) == {"prediction": [1.0, 2.0, 4.0]}
    assert one.read_truth(one.truth(LABELS[:, :1])).tolist() == LABELS[:, :1].tolist()
    both = Regression(["x", "y"])
    assert both.read_truth(both.truth(LABELS)).tolist() == LABELS.tolist()
    assert one.answer(RAW[0], 5).prediction == "1"
    assert both.answer(RAW[0], 5).prediction == "x: 1; y: 10"


def test_numbers_are_standardised_while_a_model_trains():
    output = Regression(["x", "y"]).for_training(LABELS)
    assert output.decide(np.zeros((1, 2)))[0].tolist() == LABELS.mean(axis=0).tolist()
    assert output.decide(np.ones((1, 2)))[0] == pytest.approx(LABELS.mean(axis=0) + LABELS.std(axis=0))
    assert metrics_of(output, output.constant(LABELS), LABELS)["rmse"] == pytest.approx(LABELS.std(axis=0).mean())


def test_a_number_that_never_changes_cannot_be_learned():
    with pytest.raises(UserError) as caught:
        Regression(["x", "y"]).for_training(np.array([[1.0, 7.0], [2.0, 7.0]]))
    assert caught.value.what == "all training rows hold 7: there is nothing to learn"
    assert caught.value.where == "column 'y'"


def test_figures_that_are_not_defined_are_left_out():
    output, same = Regression(["x"]), np.ones((3, 1))
    assert metrics_of(output, same, same * 2).keys() == {"rmse", "mae", "mse", "loss"}
    assert "pearson" not in metrics_of(output, same, np.array([[1.0], [2.0], [3.0]]))
    assert output.per_label(output.statistics(same, same * 2))["x"].keys() == {"rmse", "mae", "mse", "loss"}
