"""Runs are brought to one order of labels before they are compared, and refused where rows differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hf_finetune.errors import UserError
from hf_finetune.evaluation.compare_runs import Answers, align
from hf_finetune.tasks.outputs import MultiLabel, Regression, SingleLabel


def answers(name, output, logits, labels, ids=("x", "y"), texts=None, columns=None):
    logits, labels = np.array(logits, dtype=float), np.array(labels)
    about = {"texts": texts, "columns": columns or {}}
    return Answers(Path(name), list(ids), output, logits, labels, None, about)


def test_another_order_of_classes_is_brought_into_the_first():
    first = answers("a", SingleLabel(["cat", "dog", "eel"]), [[3, 2, 1], [1, 2, 3]], [0, 2])
    other = answers("b", SingleLabel(["eel", "cat", "dog"]), [[1, 3, 2], [3, 1, 2]], [1, 0])
    align(first, other)
    assert other.raw.tolist() == first.raw.tolist()
    assert other.truth.tolist() == [0, 2]
    assert other.output.names == ["cat", "dog", "eel"]


def test_thresholds_and_columns_come_along():
    first = answers("a", MultiLabel(["p", "q"], [0.1, 0.9]), [[1, 2], [3, 4]], [[1.0, 0.0], [0.0, 0.0]])
    other = answers("b", MultiLabel(["q", "p"], [0.8, 0.2]), [[2, 1], [4, 3]], [[0.0, 1.0], [0.0, 0.0]])
    align(first, other)
    assert other.output.thresholds == [0.2, 0.8]
    assert other.truth.tolist() == first.truth.tolist()


def test_other_columns_of_the_same_rows_may_be_compared():
    both = [
        answers(name, SingleLabel(["cat", "dog"]), [[1, 0]] * 2, [0, 1], texts=name, columns={"text": [name]})
        for name in ("title", "body")
    ]
    align(*both)
    both[1].about["columns"] = both[0].about["columns"]
    with pytest.raises(UserError) as caught:
        align(*both)
    assert "(the same ids with different texts)" in caught.value.what


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (answers("b", SingleLabel(["cat", "cow"]), [[1, 0]] * 2, [0, 1]), "the runs have different labels"),
        (answers("b", Regression(["cat", "dog"]), [[1, 0]] * 2, [[0, 1]] * 2), "the runs have different labels"),
        (answers("b", SingleLabel(["cat", "dog"]), [[1, 0]] * 2, [0, 1], ("y", "x")), "(a different order)"),
        (answers("b", SingleLabel(["cat", "dog"]), [[1, 0]] * 2, [0, 1], ("x", "z")), "(2 and 2 rows, 1 ids in both)"),
        (
            answers("b", SingleLabel(["cat", "dog"]), [[1, 0]] * 2, [1, 1]),
            "1 rows have different labels in the two runs",
        ),
    ],
)
def test_other_rows_are_refused(other, said):
    first = answers("a", SingleLabel(["cat", "dog"]), [[1, 0], [0, 1]], [0, 1])
    with pytest.raises(UserError) as caught:
        align(first, other)
    assert said in caught.value.what
    assert caught.value.where == "a and b"
