"""Compare two models on the same rows: McNemar's test, and a sentence that says which is better."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log10

import numpy as np

from hf_finetune.evaluation.intervals import Difference

_POWER = (1.96 + 0.84) / 1.96  # true difference in half-widths of the interval that is found with a power of 80 %
_TOO_MANY = 10_000_000


@dataclass(frozen=True)
class McNemar:
    """The result of McNemar's test.

    Args:
        both: number of rows that both models predict correctly.
        only_a: number of rows that only the first model predicts correctly.
        only_b: number of rows that only the second model predicts correctly.
        neither: number of rows that no model predicts correctly.
        p: two-sided exact binomial p-value; 1 if the models never differ.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float


def mcnemar(a_right: np.ndarray, b_right: np.ndarray) -> McNemar:
    """Run McNemar's exact test (1947) on two models and the same rows, which must be independent.

    Args:
        a_right: whether the first model is right, shape (rows,).
        b_right: whether the second model is right, shape (rows,).
    """
    from scipy.stats import binomtest

    a, b = a_right.astype(bool), b_right.astype(bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(int((a & b).sum()), only_a, only_b, int((~a & ~b).sum()), p)


def verdict(difference: Difference, a: str, b: str) -> str:
    """Return one or two sentences: which model is better and by how much, or that the rows do not show a difference.

    Args:
        difference: metric of the first model minus that of the second.
        a: name of the first model.
        b: name of the second model.
    """
    found, ends = difference, (difference.low, difference.high)
    if ends[0] > 0 or ends[1] < 0:
        better, worse = (a, b) if (found.value > 0) == found.greater_is_better else (b, a)
        how = "higher" if found.greater_is_better else "lower"
        low, high = sorted(abs(end) for end in ends)
        return (
            f"{better} is better than {worse}: its {found.metric} is {abs(found.value):.3g} {how} "
            f"(95 % interval {low:.3g} to {high:.3g})."
        )
    units = "groups of rows" if found.grouped else "rows"
    interval = f"(95 % interval of the difference {ends[0]:+.3g} to {ends[1]:+.3g})"
    if abs(found.value) < 1e-9:
        return f"{found.units:,} {units} cannot tell {a} and {b} apart: both have the same {found.metric} {interval}."
    how = "higher" if found.value > 0 else "lower"
    return (
        f"{found.units:,} {units} cannot tell {a} and {b} apart: the {found.metric} of {a} is {abs(found.value):.3g} {how} "
        f"than that of {b} {interval}. {_needed(found)} {units} would be needed to be sure of a difference of this size."
    )


def _needed(found: Difference) -> str:
    """Return about how many rows show such a difference with a power of 80 %, as the width shrinks with their root."""
    count = max(found.units + 1, found.units * (_POWER * (found.high - found.low) / 2 / abs(found.value)) ** 2)
    if count > _TOO_MANY:
        return f"More than {_TOO_MANY:,}"
    step = 10 ** max(0, int(log10(count)) - 1)  # two digits
    return f"About {ceil(count / step) * step:,}"
