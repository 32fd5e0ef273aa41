"""Which of two models is better on the same rows, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log10

import numpy as np

from hf_finetune.evaluation.intervals import Difference

_POWER = (1.96 + 0.84) / 1.96  # half-widths by which the truth must lie off zero to be seen in 80 % of samples
_TOO_MANY = 10_000_000


@dataclass(frozen=True)
class McNemar:
    """Rows that one model has right and the other wrong, and how probable so uneven a split is between equal models.

    Args:
        both: rows that both have right.
        only_a: rows that the first alone has right.
        only_b: rows that the second alone has right.
        neither: rows that both have wrong.
        p: two-sided exact binomial p-value; 1 where the models never differ.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float


def mcnemar(a_right: np.ndarray, b_right: np.ndarray) -> McNemar:
    """McNemar's exact test (1947) of two models on the same rows, which must be independent of each other.

    Args:
        a_right: whether the first has each row right, shape (rows,).
        b_right: likewise the second.
    """
    from scipy.stats import binomtest

    a, b = a_right.astype(bool), b_right.astype(bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(int((a & b).sum()), only_a, only_b, int((~a & ~b).sum()), p)


def verdict(difference: Difference, a: str, b: str) -> str:
    """One or two sentences: which model is better and by how much, or that the rows cannot tell.

    Args:
        difference: the metric of a less that of b.
        a: what the first model is called.
        b: what the second is called.
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
    """About how many rows show a difference of this size in four samples of five: the width shrinks with their root."""
    count = max(found.units + 1, found.units * (_POWER * (found.high - found.low) / 2 / abs(found.value)) ** 2)
    if count > _TOO_MANY:
        return f"More than {_TOO_MANY:,}"
    step = 10 ** max(0, int(log10(count)) - 1)  # two digits
    return f"About {ceil(count / step) * step:,}"
