"""Between epochs chunks of a text count as one row."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hf_finetune.evaluation.metrics import metric_function
from hf_finetune.tasks.outputs import MultiLabel, Regression, SingleLabel

ROWS = np.array([2, 0, 1, 2, 0])  # of the chunks, in the order of evaluation


def evaluated(output, logits, labels, rows=ROWS):
    return metric_function(output, rows=rows)(SimpleNamespace(predictions=np.array(logits), label_ids=np.array(labels)))


def test_classes_are_decided_by_the_mean_of_the_logits():
    logits = [[0, 3], [4, 0], [0, 1], [1, 0], [0, 1]]
    # By hand: row 0 has (2, 0.5), row 1 (0, 1), row 2 (0.5, 1.5): answers 0, 1, 1; the chunks alone answer 1 0 1 0 1.
    found = evaluated(SingleLabel(["a", "b"]), logits, [1, 0, 0, 1, 0])
    assert found["accuracy"] == pytest.approx(2 / 3)
    losses = [np.log(1 + np.exp(-1.5)), np.log(1 + np.exp(1)), np.log(1 + np.exp(-1))]
    assert found["loss"] == pytest.approx(np.mean(losses))


def test_several_classes_and_numbers_are_pooled_too():
    wide = [[2, -3], [1, 1], [-1, -1], [-1, 2], [-3, 3]]  # rows: (-1, 2), (-1, -1), (0.5, -0.5)
    flags = [[1, 0], [0, 1], [0, 0], [1, 0], [0, 1]]
    assert evaluated(MultiLabel(["a", "b"]), wide, flags)["accuracy"] == 1.0
    numbers = evaluated(Regression(["n"], [10.0], [2.0]), [[1], [0], [3], [2], [4]], [[13], [14], [16], [13], [14]])
    assert numbers["mae"] == pytest.approx(0)


def test_rows_without_chunks_keep_the_loss_of_the_trainer():
    assert "loss" not in evaluated(SingleLabel(["a", "b"]), [[0, 1], [1, 0]], [1, 0], rows=None)


def test_last_chunks_that_are_left_out_leave_the_others_where_they_are():
    found = evaluated(SingleLabel(["a", "b"]), [[0, 3], [4, 0], [0, 1]], [1, 0, 1])
    assert found["accuracy"] == 1.0


def test_another_order_than_the_expected_is_a_defect():
    with pytest.raises(RuntimeError, match="chunks of a row came with different labels"):
        evaluated(SingleLabel(["a", "b"]), [[0, 1]] * 5, [0, 0, 1, 1, 0])
