"""Temperatures of models that are known to be too sure, and calibration that is worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hf_finetune.tasks.outputs import SingleLabel
from hf_finetune.tasks.outputs.calibration import calibration, fit_temperature


def calibrated(logits, temperature):
    return SingleLabel(["a", "b", "c", "d"], temperature).calibrated(logits)


def drawn(rows: int = 20_000, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels that are drawn with just these probabilities."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(rows, classes)) * 2
    return logits, (logits + random.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("sureness", [0.3, 1.0, 2.5])
def test_the_temperature_of_a_simulated_model_is_found(sureness):
    logits, labels = drawn()
    found = fit_temperature(logits * sureness, labels)
    assert found == pytest.approx(sureness, rel=0.03)
    before = calibration(calibrated(logits * sureness, 1), labels)["ece"]
    after = calibration(calibrated(logits * sureness, found), labels)["ece"]
    assert after < 0.015
    assert sureness == 1 or before > 3 * after


def test_the_temperature_minimises_the_loss():
    logits, labels = drawn(2000)
    found = fit_temperature(logits * 3, labels)

    def loss(temperature):
        return -np.log(calibrated(logits * 3, temperature)[np.arange(2000), labels]).mean()

    assert loss(found) < min(loss(1), loss(found * 1.1), loss(found / 1.1))


def test_few_rows_and_rows_without_a_mistake_ask_for_nothing_extreme():
    logits, labels = drawn(200)
    assert fit_temperature(logits[:0], labels[:0]) == 1
    assert fit_temperature(logits[:1], logits[:1].argmax(axis=1)) == 1
    assert fit_temperature(logits * 5, logits.argmax(axis=1)) == 1  # no row is wrong, by however little
    assert fit_temperature(5 * np.eye(4)[labels], labels) == 1  # no row is wrong, nor near it
    one_wrong = np.where(np.arange(len(labels)) == 0, (labels + 1) % 4, labels)  # of 200, where 2 % were expected
    assert 0.5 < fit_temperature(5 * np.eye(4)[labels], one_wrong) < 1
    assert 0.15 < fit_temperature(logits, np.zeros(200)) < 20  # one class only
    assert fit_temperature(np.zeros((5, 3)), np.zeros(5)) == pytest.approx(1, abs=1e-3)  # nothing is said
    assert fit_temperature(1000 * logits, logits.argmin(axis=1)) == pytest.approx(20, rel=1e-3)  # the upper bound
    assert fit_temperature(-1000 * logits, logits.argmin(axis=1)) == 1  # far from wrong in every row


def test_calibration_by_hand():
    answer = np.array(
        [0.9] * 10 + [0.6] * 20
    )  # equal probabilities stay together, although bins of 15 rows would cut them
    probabilities = np.stack([answer, 1 - answer], axis=1)
    labels = np.array([0] * 8 + [1] * 2 + [0] * 15 + [1] * 5)
    found = calibration(probabilities, labels, bins=2)
    assert found["curve"] == [
        {"confidence": pytest.approx(0.6), "accuracy": 0.75, "rows": 20},
        {"confidence": pytest.approx(0.9), "accuracy": 0.8, "rows": 10},
    ]
    assert found["ece"] == pytest.approx((20 * 0.15 + 10 * 0.1) / 30)
    # Twice the squared error of the answer: 8 × 0.1² + 2 × 0.9² + 15 × 0.4² + 5 × 0.6².
    assert found["brier"] == pytest.approx(2 * (0.08 + 1.62 + 2.4 + 1.8) / 30)


def test_bins_hold_equally_many_rows_and_at_least_ten():
    logits, labels = drawn(300)
    assert [point["rows"] for point in calibration(calibrated(logits, 1), labels)["curve"]] == [20] * 15
    assert [point["rows"] for point in calibration(calibrated(logits, 1)[:40], labels[:40])["curve"]] == [10] * 4
    assert [point["rows"] for point in calibration(calibrated(logits, 1)[:5], labels[:5])["curve"]] == [5]


def test_several_classes_a_row_are_judged_decision_by_decision():
    probabilities = np.array([[0.2, 0.8]] * 10 + [[0.2, 0.2]] * 10)
    labels = np.array([[0, 1]] * 10 + [[1, 0]] * 5 + [[0, 0]] * 5)
    found = calibration(probabilities, labels, bins=2)
    assert found["curve"] == [
        {"confidence": pytest.approx(0.2), "accuracy": pytest.approx(1 / 6), "rows": 30},
        {"confidence": pytest.approx(0.8), "accuracy": 1.0, "rows": 10},
    ]
    assert found["ece"] == pytest.approx((30 * (0.2 - 1 / 6) + 10 * 0.2) / 40)
    assert found["brier"] == pytest.approx((35 * 0.04 + 5 * 0.64) / 40)
