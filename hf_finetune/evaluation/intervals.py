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

import numpy as np

from hf_finetune.tasks.outputs.targets import Target
from hf_finetune.tasks.outputs.weighted import WeightedMetrics

MANY_ROWS, FEWER = 50_000, 200  # so many resamples above so many rows, where a few more or less hardly move the ends
CLASS_MEANS = {"balanced_accuracy", "f1_macro", "precision_macro", "recall_macro", "auroc"}  # each class counts alike
SHARES = CLASS_MEANS | {
    "accuracy", "f1_weighted", "f1_micro", "f1_samples", "precision_micro", "recall_micro", "average_precision",
    "hamming_loss",
}  # fmt: skip

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
    target: Target,
    logits: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, list[float]]:
    """A 95 % interval of each built-in metric.

    Args:
        target: the kind of label.
        logits: shape (rows, labels).
        labels: true ids, shape (rows,), or numbers, shape (rows, labels).
        groups: names, shape (rows,); rows of a group are drawn together, since they are not independent.
        seed: of the draws.
        resamples: how many; 200 at most above 50,000 rows.

    Returns:
        metric → [low, high]. A resample in which a metric is undefined (AUROC without a class) does not count for it. Left
        out are a metric that is undefined in more than half of them, and all where there is one row or one group only.
        Where resamples do not differ, as when no row is wrong, the bootstrap would be sure of what it cannot know:
        a metric that is a share then has the exact binomial (Clopper-Pearson) interval, and others have none.
    """
    units = len(labels) if groups is None else len(np.unique(groups))
    if units < 2:
        return {}
    function = target.weighted(logits, labels)
    (drawn,) = _resampled([function], labels, groups, seed, resamples)
    found: dict[str, list[float]] = {}
    for name, (value,) in function(np.ones((1, len(labels)))).items():
        values = _defined(drawn[name])
        if np.isnan(value) or not len(values):
            continue
        if name in SHARES:
            found[name] = _share(float(value), values, units, _independent(name, labels, units))
            continue
        low, high = _middle(values, units)
        if high - low > _NO_WIDTH:
            found[name] = [low, high]
    return found


def interval_of(
    score: Callable[[np.ndarray], float],
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    seed: int = 0,
    resamples: int = 200,
) -> list[float] | None:
    """The 95 % interval of a metric that is not built in, by the percentiles of the bootstrap.

    Args:
        score: the metric of some rows, by their numbers; a row that was drawn twice comes twice.
        labels: see :func:`intervals`.
        groups: see :func:`intervals`.
        seed: of the draws.
        resamples: how many; fewer than of built-in metrics, for each is computed by itself.

    Returns:
        [low, high]; None of one row or group, and where resamples do not differ.
    """
    units = len(labels) if groups is None else len(np.unique(groups))
    if units < 2:
        return None
    rows = np.arange(len(labels))
    drawn = (np.repeat(rows, each) for some in _weights(labels, groups, seed, resamples) for each in some.astype(int))
    low, high = _middle(np.array([score(each) for each in drawn]), units)
    return [low, high] if high - low > _NO_WIDTH else None


def difference(
    target: Target,
    a_logits: np.ndarray,
    b_logits: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    metric: str,
    b_target: Target | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Difference | None:
    """A built-in metric of model a less that of model b, with the interval of the paired bootstrap: both see the same resamples.

    Args:
        target: the kind of label, as a answers it.
        a_logits: shape (rows, labels).
        b_logits: same shape.
        labels: see :func:`intervals`.
        groups: see :func:`intervals`.
        metric: its name.
        b_target: how b answers, where its thresholds or temperature are others.
        seed: of the draws.
        resamples: see :func:`intervals`.

    Returns:
        None where the metric is none of the built-in ones or is undefined, or where there is one row or group only. Where
        resamples do not differ, the ends are as far from the difference of two shares as the exact binomial bound of
        an event that was never seen; of other metrics there is then a difference only if it is 0.
    """
    units = len(labels) if groups is None else len(np.unique(groups))
    if units < 2 or metric not in target.METRICS:
        return None
    functions = [target.weighted(a_logits, labels), (b_target or target).weighted(b_logits, labels)]
    whole = [function(np.ones((1, len(labels))))[metric][0] for function in functions]
    a_drawn, b_drawn = _resampled(functions, labels, groups, seed, resamples)
    drawn, value = _defined(a_drawn[metric] - b_drawn[metric]), float(whole[0] - whole[1])
    if np.isnan(value) or not len(drawn):
        return None
    low, high = _middle(drawn, units)
    if high - low <= _NO_WIDTH:
        if metric not in SHARES and value:
            return None
        unseen = _binomial(0.0, _independent(metric, labels, units))[1] if metric in SHARES else 0.0
        low, high = max(-1.0, value - unseen), min(1.0, value + unseen)
    turned = int((drawn * np.sign(value) <= 0).sum())
    return Difference(
        metric=metric,
        greater_is_better=target.METRICS[metric],
        value=value,
        low=low,
        high=high,
        turns=turned / len(drawn),
        p=min(1.0, 2 * (turned + 1) / (len(drawn) + 1)),
        units=units,
        grouped=groups is not None,
    )


def _resampled(
    functions: Sequence[WeightedMetrics], labels: np.ndarray, groups: np.ndarray | None, seed: int, resamples: int
) -> list[dict[str, np.ndarray]]:
    """The metrics of each function in the same resamples: metric → shape (resamples,)."""
    parts: list[list[dict[str, np.ndarray]]] = [[] for _ in functions]
    for weights in _weights(labels, groups, seed, resamples if len(labels) <= MANY_ROWS else min(resamples, FEWER)):
        for found, function in zip(parts, functions, strict=True):
            found.append(function(weights))
    return [{name: np.concatenate([part[name] for part in found]) for name in found[0]} for found in parts]


def _weights(labels: np.ndarray, groups: np.ndarray | None, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each row is drawn, shape (some resamples, rows), until there are so many resamples."""
    random = np.random.default_rng(seed)
    names, own = (labels, None) if groups is None else np.unique(groups, return_inverse=True)
    units = len(names)
    at_once = min(resamples, max(_FEWEST_AT_ONCE, _WEIGHTS_AT_ONCE // labels.size))
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


def _independent(metric: str, labels: np.ndarray, units: int) -> float:
    """As many independent rows as a metric stands on: of a mean over classes fewer, where some of them are rare.

    The variance of the mean of C shares of n_1 … n_C rows is that of one share of C² / (1/n_1 + … + 1/n_C) rows.
    """
    if metric not in CLASS_MEANS:
        return units
    counts = np.bincount(labels) if labels.ndim == 1 else labels.sum(axis=0)
    counts = counts[counts > 0]
    return units * min(1.0, len(counts) ** 2 / (1 / counts).sum() / len(labels))
