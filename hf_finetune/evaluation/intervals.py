"""95 % bootstrap intervals of metrics, and of the difference between two models.

A resample draws rows, or whole groups of rows, with replacement, as many as there are. The interval of a metric that is a
share from 0 to 1 is Wilson's score interval for the number of independent rows that would have the variance of the
resamples (as Korn and Graubard 1998 do for surveys), because percentiles of the bootstrap are too narrow near 0 and 1.
The interval of other metrics and of differences is the middle 95 % of the resamples. Both are widened a little for few
rows, by the quantiles of Student's t and the variance with ``n - 1`` (Hesterberg, arXiv 1411.5279).
``benchmarks/intervals.py`` measures how often the intervals contain the true value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_finetune.tasks.outputs import Output

RESAMPLES = 1000
MANY_ROWS, FEWER = 50_000, 200  # above the first number of rows, the second number of resamples is enough

_NO_WIDTH = 1e-12
_WEIGHTS_AT_ONCE = 8_000_000  # 64 MB
_FEWEST_AT_ONCE = 8  # the weights of a row then fill a cache line


@dataclass(frozen=True)
class Difference:
    """The difference of a metric between two models on the same rows: first minus second."""

    metric: str
    greater_is_better: bool  # whether a positive difference means that the first model is better
    value: float  # the difference on the rows themselves
    low: float  # ends of the 95 % interval
    high: float
    turns: float  # share of resamples in which the difference is zero or has the other sign
    # Two-sided bootstrap p-value: twice ``turns``, at most 1 and never 0. The interval decides which model is better,
    # because it is widened for few rows.
    p: float
    units: int  # number of rows, or of groups if ``grouped``: whether whole groups were drawn
    grouped: bool = False


def intervals(
    output: Output, statistics: Any, groups: np.ndarray | None = None, *, seed: int = 0
) -> dict[str, list[float]]:
    """Return a 95 % interval of each metric of the output: metric → [low, high].

    Rows of a group, given by ``groups`` of shape (rows,), are not independent, and are drawn together.

    Resamples in which a metric is undefined (AUROC without a class) are ignored; a metric that is undefined in more than
    half of them is left out. Empty for a single row or group. If all resamples are equal, for example because no row is
    wrong, the bootstrap has no width: a share then has the exact binomial (Clopper-Pearson) interval, and other metrics
    are left out.
    """
    units = _units(len(statistics), groups)
    if units < 2:
        return {}
    (drawn,) = _resampled(output, [statistics], groups, seed)
    found: dict[str, list[float]] = {}
    for name, (value,) in output.score(statistics, np.ones((1, len(statistics)))).items():
        values = _defined(drawn[name])
        if np.isnan(value) or not len(values):
            continue
        shares, count = name in output.SHARES, _independent(output, name, statistics, units)
        bounds = _share(float(value), values, units, count) if shares else _middle(values, units)
        found |= {} if bounds is None else {name: bounds}
    return found


def interval_of(
    score: Callable[[np.ndarray], float], rows: int, groups: np.ndarray | None = None
) -> list[float] | None:
    """Return the 95 % interval [low, high] of a metric that is not built in, by the percentiles of the bootstrap.

    ``score`` computes the metric of some rows from their indices, which may repeat. Each resample is computed separately,
    so there are fewer than for built-in metrics. None for a single row or group, or if all resamples are equal.
    """
    units = _units(rows, groups)
    if units < 2:
        return None
    weights = _weights(rows, rows, groups, 0, FEWER)
    drawn = (np.repeat(np.arange(rows), each) for some in weights for each in some.astype(int))
    return _middle(np.array([score(each) for each in drawn]), units)


def difference(
    output: Output, a: Any, b: Any, groups: np.ndarray | None = None, *, metric: str, seed: int = 0
) -> Difference | None:
    """Return the difference of a metric between the statistics of two models, with the interval of the paired bootstrap.

    None if the output does not have the metric, if it is undefined, or for a single row or group. If all resamples are
    equal, the interval of a share reaches to both sides as far as the exact binomial bound of an event that was never
    seen; for other metrics the result is None unless the difference is 0.
    """
    units = _units(len(a), groups)
    if units < 2 or metric not in output.METRICS:
        return None
    whole = [output.score(each, np.ones((1, len(each))))[metric][0] for each in (a, b)]
    a_drawn, b_drawn = _resampled(output, [a, b], groups, seed)
    drawn, value = _defined(a_drawn[metric] - b_drawn[metric]), float(whole[0] - whole[1])
    if np.isnan(value) or not len(drawn):
        return None
    bounds = _middle(drawn, units)
    if bounds is None:
        shares = metric in output.SHARES
        if not shares and value:
            return None
        unseen = _binomial(0.0, _independent(output, metric, a, units))[1] if shares else 0.0
        bounds = [max(-1.0, value - unseen), min(1.0, value + unseen)]
    low, high = bounds
    turned = int((drawn * np.sign(value) <= 0).sum())
    p = min(1.0, 2 * (turned + 1) / (len(drawn) + 1))
    greater = output.METRICS[metric]
    return Difference(metric, greater, value, low, high, turned / len(drawn), p, units, groups is not None)


def _units(rows: int, groups: np.ndarray | None) -> int:
    return rows if groups is None else len(np.unique(groups))


def _resampled(
    output: Output, models: Sequence[Any], groups: np.ndarray | None, seed: int
) -> list[dict[str, np.ndarray]]:
    """Return for each model metric → values in the same resamples, shape (resamples,)."""
    rows, size = len(models[0]), models[0].size
    parts: list[list[dict[str, np.ndarray]]] = [[] for _ in models]
    for weights in _weights(rows, size, groups, seed, RESAMPLES if rows <= MANY_ROWS else FEWER):
        for found, statistics in zip(parts, models, strict=True):
            found.append(output.score(statistics, weights))
    return [{name: np.concatenate([part[name] for part in found]) for name in found[0]} for found in parts]


def _weights(rows: int, size: int, groups: np.ndarray | None, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield how often each row is drawn, shape (some resamples, rows), until there are ``resamples`` of them.

    ``size`` is the number of values that a resample needs in memory; it bounds how many are made at once.
    """
    random = np.random.default_rng(seed)
    names, own = (np.arange(rows), None) if groups is None else np.unique(groups, return_inverse=True)
    units = len(names)
    at_once = min(resamples, max(_FEWEST_AT_ONCE, _WEIGHTS_AT_ONCE // size))
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        places = random.integers(units, size=(count, units)) * count + np.arange(count)[:, None]
        weights = np.bincount(places.ravel(), minlength=units * count).reshape(units, count)
        yield (weights if own is None else weights[own]).T


def _defined(values: np.ndarray) -> np.ndarray:
    """Return the values that are defined; none of them if they are less than half."""
    defined = values[~np.isnan(values)]
    return defined if 2 * len(defined) >= len(values) else defined[:0]


def _deviations(units: int) -> float:
    """Return the half-width of a 95 % interval in standard deviations of the resamples; 1.96 for many rows."""
    from scipy.stats import t

    return float(t.ppf(0.975, units - 1) * np.sqrt(units / (units - 1)))


def _middle(values: np.ndarray, units: int) -> list[float] | None:
    """Return the middle 95 % of the resamples; None if they are equal."""
    from scipy.stats import norm

    tail = float(norm.cdf(-_deviations(units)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return [float(low), float(high)] if high - low > _NO_WIDTH else None


def _share(value: float, values: np.ndarray, units: int, count: float) -> list[float]:
    """Return Wilson's interval (1927) of a share with the variance of the resamples; the exact one if they are equal."""
    variance = float(values.var())
    if np.ptp(values) <= _NO_WIDTH or min(value, 1 - value) <= _NO_WIDTH:
        return _binomial(value, count)
    reach = _deviations(units) ** 2 * variance / (value * (1 - value))  # z² / n of the formula
    middle, half = value + reach / 2, np.sqrt(reach * (value * (1 - value) + reach / 4))
    return [float((middle - half) / (1 + reach)), float((middle + half) / (1 + reach))]


def _binomial(share: float, count: float) -> list[float]:
    """Return the exact 95 % interval of a binomial share (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    hits = share * count
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits > _NO_WIDTH else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if count - hits > _NO_WIDTH else 1.0
    return [low, high]


def _independent(output: Output, metric: str, statistics: Any, units: int) -> float:
    """Return the number of independent rows behind a metric: fewer for a mean over classes, some of which are rare.

    The mean of C shares over n_1 … n_C rows has the variance of one share over C² / (1/n_1 + … + 1/n_C) rows.
    """
    if metric not in output.CLASS_MEANS:
        return units
    counts = statistics.class_rows
    counts = counts[counts > 0]
    return units * min(1.0, len(counts) ** 2 / (1 / counts).sum() / len(statistics))
