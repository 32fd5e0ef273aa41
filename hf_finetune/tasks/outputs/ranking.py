"""Areas under curves and rank correlations of weighted rows, of many resamples at once.

A resample is a weight of each row: how often it was drawn. What does not depend on the weights (the order of scores, ties) is
computed once; a batch of resamples is then a few products of sparse matrices. Weights have the shape (rows, resamples): a row's
weights lie side by side, which is what sparse products run along.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix

Ranked = tuple[csr_matrix, csr_matrix]


def by_row(weights: np.ndarray) -> np.ndarray:
    """Return weights of shape (resamples, rows) in the shape (rows, resamples)."""
    return np.ascontiguousarray(weights.T, dtype=np.float64)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return ``above / below``; 0 of 0 is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def rank_scores(scores: np.ndarray, positive: np.ndarray, rows: np.ndarray | None = None, count: int = 0) -> Ranked:
    """Sort scores from the highest down and cut them at the positive ones, which is all that curves need of the order.

    Args:
        scores: one each decision.
        positive: which of them are of the class.
        rows: the row of each decision, where a row has several; of ``count`` rows.

    Returns:
        A matrix of 2 × k lines that sums the weights of rows: by turns those between two of the k scores that positives
        have, and those at this score; and one of k lines that sums the positives at each of them.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], positive[order]
    own = order if rows is None else rows[order]
    tie = np.cumsum(np.append(False, ranked[1:] != ranked[:-1]))
    holds = np.bincount(tie, weights=hit) > 0
    before: np.ndarray = np.cumsum(holds) - holds
    cuts = int(holds.sum())
    shape = count or len(scores)
    return (
        _sums((2 * before + holds)[tie], own, 2 * cuts, shape),
        _sums(before[tie[hit]], own[hit], cuts, shape),
    )


def area_under_roc(ranked: Ranked, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve, shape (resamples,); NaN where all rows are positive, or none.

    It is the share of pairs of a positive and a negative row in which the positive one has the higher score; ties count half.

    Args:
        ranked: see :func:`rank_scores`.
        weights: shape (rows, resamples).
        total: their sum over the rows, shape (resamples,).
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
    """Return the precision at each cut, weighted by the recall that the cut adds, shape (resamples,); 0 without positives."""
    steps, hits = ranked
    step, hit = steps @ weights, hits @ weights
    found = np.cumsum(hit, axis=0)
    at_cut = ratio(found, np.cumsum(step[::2] + step[1::2], axis=0))
    return ratio((hit * at_cut).sum(axis=0), hit.sum(axis=0))


def mid_ranks(numbers: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function of weights that gives the ranks of numbers in each resample; equal ones share their mean rank.

    The function returns ranks of shape (rows, resamples), and whether a resample holds one number only, shape (resamples,).
    """
    _, tie = np.unique(numbers, return_inverse=True)
    order = np.argsort(tie, kind="stable")
    sums = _sums(tie[order], order, int(tie.max()) + 1, len(tie))

    def ranks(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = sums @ weights
        return (np.cumsum(at, axis=0) - at / 2)[tie], (at > 0).sum(axis=0) == 1

    return ranks


def rank_correlation(one: np.ndarray, other: np.ndarray, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return Spearman's coefficient of mid-ranks of shape (rows, resamples), whose mean is half the number of rows."""
    one, other = one - total / 2, other - total / 2
    weighted = one * weights
    product, spread = np.einsum("nr,nr->r", weighted, other), np.einsum("nr,nr->r", weighted, one)
    other_spread = np.einsum("nr,nr,nr->r", other, other, weights)
    return product / np.sqrt(np.maximum(spread * other_spread, 1e-12))


def centred_products(one: np.ndarray, other: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function of weights and their sums that adds up the products of two columns, each less its mean."""
    one, other = one - np.median(one), other - np.median(other)  # sums of large numbers would drown what differs
    columns = np.stack([one, other, one * other])

    def products(weights: np.ndarray, total: np.ndarray) -> np.ndarray:
        first, second, both = columns @ weights
        return both - first * second / total

    return products


def _sums(lines: np.ndarray, rows: np.ndarray, count: int, width: int) -> csr_matrix:
    """Which row goes into which line; lines ascend, and those from ``count`` on are left out."""
    starts = np.searchsorted(lines, np.arange(count + 1))
    kept = rows[: starts[-1]]
    return csr_matrix((np.ones(len(kept), dtype=np.int8), kept.astype(np.int32), starts), shape=(count, width))
