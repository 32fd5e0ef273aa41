"""How sure a metric is: 95 % bootstrap intervals over rows, or over groups of rows, and of the difference of two models.

A resample draws as many rows as there are, with replacement; where rows come in groups, as many whole groups. The interval of
a metric that is a share from 0 to 1 is Wilson's score interval of as many independent rows as have the variance of the
resamples (as Korn and Graubard 1998 do for surveys): near 0 and 1 the bootstrap's own percentiles are too narrow. Of other
metrics, and of differences, it is where the middle 95 % of the resamples' values lie. Both are a little wider where there are
few rows: with the quantiles of Student's t and the variance of ``n - 1`` (Hesterberg, arXiv 1411.5279). How often they hold
the truth is measured by ``benchmarks/intervals.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_finetune.tasks.outputs import Output

MANY_ROWS, FEWER = 50_000, 200  # so many resamples above so many rows, where a few more or less hardly move the ends

_NO_WIDTH = 1e-12
_WEIGHTS_AT_ONCE = 8_000_000  # 64 MB
_FEWEST_AT_ONCE = 8  # a row's weights then fill a line of the processor's cache


@dataclass(frozen=True)
class Difference:
    """A metric of one model less that of another, on the same rows.

    Args:
        metric: its name.
        greater_is_better: whether a positive difference speaks for the first.
        value: on the rows as they are.
        low: lower end of the 95 % interval.
        high: its upper end.
        turns: share of resamples in which the difference is zero or has the other sign.
        p: two-sided bootstrap p-value: twice ``turns``, at most 1 and never 0. The interval, which is a little wider where
            rows are few, decides; p says how narrowly.
        units: rows, or groups of rows where ``grouped``.
        grouped: whether whole groups were drawn.
    """

    metric: str
    greater_is_better: bool
    value: float
    low: float
    high: float
    turns: float
    p: float
    units: int
    grouped: bool = False


def intervals(
    output: Output, statistics: Any, groups: np.ndarray | None = None, *, seed: int = 0, resamples: int = 1000
) -> dict[str, list[float]]:
    """Return a 95 % interval of each metric of the output.

    Args:
        output: the kind of label.
        statistics: of the rows.
        groups: names, shape (rows,); rows of a group are drawn together, since they are not independent.
        seed: of the draws.
        resamples: how many; 200 at most above 50,000 rows.

    Returns:
        metric → [low, high]. A resample in which a metric is undefined (AUROC without a class) does not count for it. Left
        out are a metric that is undefined in more than half of them, and all where there is one row or one group only.
        Where resamples do not differ, as when no row is wrong, the bootstrap would be sure of what it cannot know:
        a metric that is a share then has the exact binomial (Clopper-Pearson) interval, and others have none.
    """
    units = _units(len(statistics), groups)
    if units < 2:
        return {}
    (drawn,) = _resampled(output, [statistics], groups, seed, resamples)
    found: dict[str, list[float]] = {}
    for name, (value,) in output.score(statistics, np.ones((1, len(statistics)))).items():
        values = _defined(drawn[name])
        if np.isnan(value) or not len(values):
            continue
        if name in output.SHARES:
            found[name] = _share(float(value), values, units, _independent(output, name, statistics, units))
            continue
        low, high = _middle(values, units)
        if high - low > _NO_WIDTH:
            found[name] = [low, high]
    return found


def interval_of(
    score: Callable[[np.ndarray], float],
    rows: int,
    groups: np.ndarray | None = None,
    *,
    seed: int = 0,
    resamples: int = 200,
) -> list[float] | None:
    """The 95 % interval of a metric that is not built in, by the percentiles of the bootstrap.

    Args:
        score: the metric of some rows, by their numbers; a row that was drawn twice comes twice.
        rows: their number.
        groups: see :func:`intervals`.
        seed: of the draws.
        resamples: how many; fewer than of built-in metrics, for each is computed by itself.

    Returns:
        [low, high]; None of one row or group, and where resamples do not differ.
    """
    units = _units(rows, groups)
    if units < 2:
        return None
    weights = _weights(rows, rows, groups, seed, resamples)
    drawn = (np.repeat(np.arange(rows), each) for some in weights for each in some.astype(int))
    low, high = _middle(np.array([score(each) for each in drawn]), units)
    return [low, high] if high - low > _NO_WIDTH else None


def difference(
    output: Output,
    a: Any,
    b: Any,
    groups: np.ndarray | None = None,
    *,
    metric: str,
    seed: int = 0,
    resamples: int = 1000,
) -> Difference | None:
    """Return a metric of model a less that of model b, with the interval of the paired bootstrap: both see the same resamples.

    Args:
        output: the kind of label.
        a: statistics of the first model.
        b: statistics of the second model on the same rows.
        groups: see :func:`intervals`.
        metric: its name.
        seed: of the draws.
        resamples: see :func:`intervals`.

    Returns:
        None where the metric is not one of the output's or is undefined, or where there is one row or group only. Where
        resamples do not differ, the ends are as far from the difference of two shares as the exact binomial bound of
        an event that was never seen; of other metrics there is then a difference only if it is 0.
    """
    units = _units(len(a), groups)
    if units < 2 or metric not in output.METRICS:
        return None
    whole = [output.score(each, np.ones((1, len(each))))[metric][0] for each in (a, b)]
    a_drawn, b_drawn = _resampled(output, [a, b], groups, seed, resamples)
    drawn, value = _defined(a_drawn[metric] - b_drawn[metric]), float(whole[0] - whole[1])
    if np.isnan(value) or not len(drawn):
        return None
    low, high = _middle(drawn, units)
    if high - low <= _NO_WIDTH:
        shares = metric in output.SHARES
        if not shares and value:
            return None
        unseen = _binomial(0.0, _independent(output, metric, a, units))[1] if shares else 0.0
        low, high = max(-1.0, value - unseen), min(1.0, value + unseen)
    turned = int((drawn * np.sign(value) <= 0).sum())
    return Difference(
        metric=metric,
        greater_is_better=output.METRICS[metric],
        value=value,
        low=low,
        high=high,
        turns=turned / len(drawn),
        p=min(1.0, 2 * (turned + 1) / (len(drawn) + 1)),
        units=units,
        grouped=groups is not None,
    )


def _units(rows: int, groups: np.ndarray | None) -> int:
    """The number of rows, or of groups of them."""
    return rows if groups is None else len(np.unique(groups))


def _resampled(
    output: Output, models: Sequence[Any], groups: np.ndarray | None, seed: int, resamples: int
) -> list[dict[str, np.ndarray]]:
    """The metrics of each model in the same resamples: metric → shape (resamples,)."""
    rows, size = len(models[0]), models[0].size
    parts: list[list[dict[str, np.ndarray]]] = [[] for _ in models]
    for weights in _weights(rows, size, groups, seed, resamples if rows <= MANY_ROWS else min(resamples, FEWER)):
        for found, statistics in zip(parts, models, strict=True):
            found.append(output.score(statistics, weights))
    return [{name: np.concatenate([part[name] for part in found]) for name in found[0]} for found in parts]


def _weights(rows: int, size: int, groups: np.ndarray | None, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each row is drawn, shape (some resamples, rows), until there are so many resamples.

    ``size`` is how many numbers a resample touches, which bounds how many are made at once.
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
    """The resamples in which a metric is defined; none where these are less than half."""
    defined = values[~np.isnan(values)]
    return defined if 2 * len(defined) >= len(values) else defined[:0]


def _deviations(units: int) -> float:
    """By how many of the resamples' standard deviations a 95 % interval reaches to each side; 1.96 of many rows."""
    from scipy.stats import t

    return float(t.ppf(0.975, units - 1) * np.sqrt(units / (units - 1)))


def _middle(values: np.ndarray, units: int) -> list[float]:
    """Where the middle 95 % of the resamples' values lie."""
    from scipy.stats import norm

    tail = float(norm.cdf(-_deviations(units)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return [float(low), float(high)]


def _share(value: float, values: np.ndarray, units: int, count: float) -> list[float]:
    """Wilson's interval (1927) of a share that varies as the resamples do; the exact one of ``count`` rows if none varies."""
    variance = float(values.var())
    if np.ptp(values) <= _NO_WIDTH or min(value, 1 - value) <= _NO_WIDTH:
        return _binomial(value, count)
    reach = _deviations(units) ** 2 * variance / (value * (1 - value))  # z² / n of the formula
    middle, half = value + reach / 2, np.sqrt(reach * (value * (1 - value) + reach / 4))
    return [float((middle - half) / (1 + reach)), float((middle + half) / (1 + reach))]


def _binomial(share: float, count: float) -> list[float]:
    """The exact 95 % interval of a share of independent yes-or-no events (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    hits = share * count
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits > _NO_WIDTH else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if count - hits > _NO_WIDTH else 1.0
    return [low, high]


def _independent(output: Output, metric: str, statistics: Any, units: int) -> float:
    """As many independent rows as a metric stands on: of a mean over classes fewer, where some of them are rare.

    The variance of the mean of C shares of n_1 … n_C rows is that of one share of C² / (1/n_1 + … + 1/n_C) rows.
    """
    if metric not in output.CLASS_MEANS:
        return units
    counts = statistics.class_rows
    counts = counts[counts > 0]
    return units * min(1.0, len(counts) ** 2 / (1 / counts).sum() / len(statistics))
