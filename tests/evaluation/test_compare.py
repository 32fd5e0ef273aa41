"""McNemar's exact test, and verdicts in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hf_finetune.evaluation.compare_runs import mcnemar, verdict
from hf_finetune.evaluation.intervals import Difference


def test_mcnemar_counts_the_rows_that_differ():
    a = np.array([1] * 10 + [1] * 8 + [0] * 2 + [0] * 5, dtype=bool)
    b = np.array([1] * 10 + [0] * 8 + [1] * 2 + [0] * 5, dtype=bool)
    found = mcnemar(a, b)
    p = found.pop("p")
    assert found == {"both": 10, "only_a": 8, "only_b": 2, "neither": 5}
    # Two or fewer, or eight or more, heads of ten: 2 × (1 + 10 + 45) / 1024.
    assert p == pytest.approx(112 / 1024)
    assert mcnemar(a, a)["p"] == 1


EXAMPLE = Difference("accuracy", True, value=0.03, low=0.02, high=0.041, turns=0.0, p=0.002, units=1000)


def found(**changes) -> Difference:
    return replace(EXAMPLE, **changes)


def test_a_difference_beyond_its_interval_names_the_better():
    assert verdict(found(), "this run", "the baseline") == (
        "this run is better than the baseline: its accuracy is 0.03 higher (95 % interval 0.02 to 0.041)."
    )
    worse = found(value=-0.03, low=-0.041, high=-0.02)
    assert verdict(worse, "this run", "the baseline") == (
        "the baseline is better than this run: its accuracy is 0.03 higher (95 % interval 0.02 to 0.041)."
    )
    lower = found(metric="rmse", greater_is_better=False, value=-12.5, low=-20.25, high=-4.0)
    assert verdict(lower, "a", "b") == "a is better than b: its rmse is 12.5 lower (95 % interval 4 to 20.2)."
    assert verdict(found(metric="rmse", greater_is_better=False), "a", "b").startswith(
        "b is better than a: its rmse is 0.03 lower"
    )


def test_a_difference_within_its_interval_says_how_many_rows_would_tell():
    # Half the width is 0.02, twice the difference: 1,000 × (2.8 / 1.96 × 2)² rows.
    close = found(value=0.01, low=-0.01, high=0.03, turns=0.2, p=0.4)
    assert verdict(close, "a", "b") == (
        "1,000 rows cannot tell a and b apart: the accuracy of a is 0.01 higher than that of b (95 % interval of the "
        "difference -0.01 to +0.03). About 8,200 rows would be needed to be sure of a difference of this size."
    )
    grouped = found(value=-1e-7, low=-0.01, high=0.01, units=20, grouped=True)
    assert "20 groups of rows cannot tell" in verdict(grouped, "a", "b")
    assert "More than 10,000,000 groups of rows would be needed" in verdict(grouped, "a", "b")


def test_equal_models_are_called_equal():
    assert verdict(found(value=0.0, low=-0.2, high=0.2, units=13), "a", "b") == (
        "13 rows cannot tell a and b apart: both have the same accuracy (95 % interval of the difference -0.2 to +0.2)."
    )
