"""Areas under curves and rank correlations of weighted rows, for many resamples at once.

A resample is a weight per row: how often the row was drawn. What does not depend on the weights (order of scores, ties)
is computed once; a batch of resamples then takes a few products with sparse matrices. Weights have the shape (rows,
resamples), the fast memory layout for these products.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix

Ranked = tuple[csr_matrix, csr_matrix]


def by_row(weights: np.ndarray) -> np.ndarray:
    """Return weights of shape (resamples, rows) as (rows, resamples)."""
    return np.ascontiguousarray(weights.T, dtype=np.float64)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return ``above / below``; 0 / 0 is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def rank_scores(scores: np.ndarray, positive: np.ndarray, rows: np.ndarray | None = None, count: int = 0) -> Ranked:
    """Return the order of scores, highest first, cut at the positive ones: all that curves need.

    Args:
        scores: one per decision.
        positive: which decisions are positive.
        rows: the row of each decision, out of ``count`` rows, if a row has several.

    Returns:
        Two matrices that sum weights of rows, for the k different scores of positives. The first has 2 × k lines, for each
        score the rows between the previous score and this one, then those at this score; the second has k lines, the
        positives at each score.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], positive[order]
    own = order if rows is None else rows[order]
    tie = np.cumsum(np.append(False, ranked[1:] != ranked[:-1]))
    holds = np.bincount(tie, weights=hit) > 0
    before: np.ndarray = np.cumsum(holds) - holds
    cuts = int(holds.sum())
    width = count or len(scores)
    return _sums((2 * before + holds)[tie], own, 2 * cuts, width), _sums(before[tie[hit]], own[hit], cuts, width)


def area_under_roc(ranked: Ranked, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve, shape (resamples,); NaN if all rows are positive, or none.

    It is the share of pairs of a positive and a negative row in which the positive row scores higher; ties count half.
    ``total`` is the sum of the weights over rows.
    """
    steps, hits = ranked
    step, hit = steps @ weights, hits @ weights
    positives = hit.sum(axis=0)
    negatives = total - positives
    tied = step[1::2] - hit
    below = negatives - np.cumsum(step[::2] + tied, axis=0)
    pairs = positives * negatives
    return np.where(pairs > 0, (hit * (below + tied / 2)).sum(axis=0) / np.where(pairs > 0, pairs, 1), np.nan)


def average_precision(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
    """Return the mean of precisions at the cuts, weighted by added recall, shape (resamples,); 0 without positives."""
    steps, hits = ranked
    step, hit = steps @ weights, hits @ weights
    found = np.cumsum(hit, axis=0)
    at_cut = ratio(found, np.cumsum(step[::2] + step[1::2], axis=0))
    return ratio((hit * at_cut).sum(axis=0), hit.sum(axis=0))


def mid_ranks(numbers: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function from weights to ranks in each resample; ties get their mean rank.

    It returns ranks of shape (rows, resamples), and whether a resample has only one different number, shape (resamples,).
    """
    _, tie = np.unique(numbers, return_inverse=True)
    order = np.argsort(tie, kind="stable")
    sums = _sums(tie[order], order, int(tie.max()) + 1, len(tie))

    def ranks(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = sums @ weights
        return (np.cumsum(at, axis=0) - at / 2)[tie], (at > 0).sum(axis=0) == 1

    return ranks


def rank_correlation(one: np.ndarray, other: np.ndarray, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation from mid-ranks of shape (rows, resamples), whose mean is half the number of rows."""
    one, other = one - total / 2, other - total / 2
    weighted = one * weights
    product, spread = np.einsum("nr,nr->r", weighted, other), np.einsum("nr,nr->r", weighted, one)
    other_spread = np.einsum("nr,nr,nr->r", other, other, weights)
    return product / np.sqrt(np.maximum(spread * other_spread, 1e-12))


def _sums(lines: np.ndarray, rows: np.ndarray, count: int, width: int) -> csr_matrix:
    """Return a matrix that adds rows into lines; lines ascend, and those from ``count`` on are dropped."""
    starts = np.searchsorted(lines, np.arange(count + 1))
    kept = rows[: starts[-1]]
    return csr_matrix((np.ones(len(kept), dtype=np.int8), kept.astype(np.int32), starts), shape=(count, width))
