"""The metrics of many resamples at once: a resample is a weight of each row, how often it was drawn.

What does not depend on the weights (answers, losses, the order of scores) is worked out once; a batch of resamples is then
a few products of sparse matrices. A metric is NaN in the resamples in which it is not defined. With weights of one the
values are those of ``Target.metrics``; with whole numbers, those of rows that are repeated so often.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix

# weights of shape (resamples, rows) → metric → shape (resamples,)
WeightedMetrics = Callable[[np.ndarray], dict[str, np.ndarray]]


def single_label(probabilities: np.ndarray, labels: np.ndarray) -> WeightedMetrics:
    """The metrics of one class a row.

    Args:
        probabilities: shape (rows, classes).
        labels: true ids, shape (rows,).
    """
    rows, classes = probabilities.shape
    labels, predicted = labels.astype(np.int64), probabilities.argmax(axis=1)
    loss = -np.log(np.maximum(probabilities[np.arange(rows), labels], 1e-12))
    every = np.arange(classes)[:, None]
    true, answered = csr_matrix(every == labels, dtype=float), csr_matrix(every == predicted, dtype=float)
    both = true.multiply(answered).tocsr()
    areas = [_area(_ranked(probabilities[:, i], labels == i)) for i in ([1] if classes == 2 else range(classes))]

    def metrics(weights: np.ndarray) -> dict[str, np.ndarray]:
        weights = _by_row(weights)
        total = weights.sum(axis=0)
        in_class, of_class, hits = true @ weights, answered @ weights, both @ weights
        present = in_class > 0
        recall, precision, f1 = _ratio(hits, in_class), _ratio(hits, of_class), _ratio(2 * hits, in_class + of_class)
        return {
            "accuracy": hits.sum(axis=0) / total,
            "balanced_accuracy": _mean_where(recall, present),
            "f1_macro": _mean_where(f1, present),
            "f1_weighted": (f1 * in_class).sum(axis=0) / total,
            "precision_macro": _mean_where(precision, present),
            "recall_macro": _mean_where(recall, present),
            "mcc": _matthews(hits, in_class, of_class, total),
            "auroc": np.mean([area(weights, total) for area in areas], axis=0),
            "loss": loss @ weights / total,
        }

    return metrics


def multi_label(probabilities: np.ndarray, chosen: np.ndarray, labels: np.ndarray) -> WeightedMetrics:
    """The metrics of several classes a row.

    Args:
        probabilities: shape (rows, classes).
        chosen: 0 and 1, which classes are answered; same shape.
        labels: 0 and 1, the true classes; same shape.
    """
    rows, classes = labels.shape
    clipped = np.clip(probabilities, 1e-12, 1 - 1e-12)
    hits, answered, present = (labels * chosen).sum(axis=1), chosen.sum(axis=1), labels.sum(axis=1)
    by_row = np.stack(
        [
            np.where(answered + present, 2 * hits / np.maximum(answered + present, 1), 1),
            (labels == chosen).all(axis=1),
            (labels != chosen).mean(axis=1),
            -(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)).mean(axis=1),
            hits, answered, present,
        ]
    )  # fmt: skip
    true, of_class = csr_matrix(labels.T, dtype=float), csr_matrix(chosen.T, dtype=float)
    both = csr_matrix((labels * chosen).T, dtype=float)
    precision = _average_precision(
        _ranked(probabilities.ravel(), labels.ravel() > 0, np.repeat(np.arange(rows), classes), rows)
    )
    areas = [_area(_ranked(probabilities[:, i], labels[:, i] > 0)) for i in range(classes)]

    def metrics(weights: np.ndarray) -> dict[str, np.ndarray]:
        weights = _by_row(weights)
        total = weights.sum(axis=0)
        f1_samples, all_right, wrong, loss, hits, answered, present = by_row @ weights
        return {
            "average_precision": precision(weights),
            "f1_micro": _ratio(2 * hits, answered + present),
            "f1_macro": _ratio(2 * (both @ weights), true @ weights + of_class @ weights).mean(axis=0),
            "f1_samples": f1_samples / total,
            "precision_micro": _ratio(hits, answered),
            "recall_micro": _ratio(hits, present),
            "accuracy": all_right / total,
            "hamming_loss": wrong / total,
            "auroc": np.mean([area(weights, total) for area in areas], axis=0),
            "loss": loss / total,
        }

    return metrics


def regression(values: np.ndarray, labels: np.ndarray) -> WeightedMetrics:
    """The metrics of predicted numbers, each the mean over the targets.

    Args:
        values: predicted numbers, shape (rows, targets).
        labels: true numbers, same shape.
    """
    errors = (values - labels).T
    spreads = [_products(label, label) for label in labels.T]
    products = [_products(value, label) for value, label in zip(values.T, labels.T, strict=True)]
    own = [_products(value, value) for value in values.T]
    ranks = [(_mid_ranks(value), _mid_ranks(label)) for value, label in zip(values.T, labels.T, strict=True)]

    def metrics(weights: np.ndarray) -> dict[str, np.ndarray]:
        weights = _by_row(weights)
        total = weights.sum(axis=0)
        mse = np.square(errors) @ weights / total
        found: dict[str, list[np.ndarray]] = {"r2": [], "pearson": [], "spearman": []}
        for index, (rank_value, rank_label) in enumerate(ranks):
            (places, one_value), (true_places, one_label) = rank_value(weights), rank_label(weights)
            flat = one_value | one_label
            spread, spread_of_values = spreads[index](weights, total), own[index](weights, total)
            spread = np.where(one_label | (spread <= 0), np.nan, spread)
            both = np.where(flat | (spread_of_values <= 0), np.nan, spread * spread_of_values)
            product = products[index](weights, total) / np.sqrt(both)
            found["r2"].append(1 - mse[index] * total / spread)
            found["pearson"].append(product)
            found["spearman"].append(np.where(flat, np.nan, _rank_correlation(places, true_places, weights, total)))
        errors_of = {
            "rmse": np.sqrt(mse).mean(axis=0),
            "mae": (np.abs(errors) @ weights / total).mean(axis=0),
            "mse": mse.mean(axis=0),
            "loss": mse.mean(axis=0),
        }
        return errors_of | {name: np.mean(values, axis=0) for name, values in found.items()}

    return metrics


def _by_row(weights: np.ndarray) -> np.ndarray:
    """Shape (rows, resamples): a row's weights lie side by side, which is what sparse products run along."""
    return np.ascontiguousarray(weights.T, dtype=np.float64)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A share; 0 of 0 is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _mean_where(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    return np.where(present, values, 0).sum(axis=0) / present.sum(axis=0)


def _matthews(hits: np.ndarray, true: np.ndarray, answered: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Gorodkin's coefficient of several classes; 0 where one class only is true or answered."""
    together = hits.sum(axis=0) * total - (true * answered).sum(axis=0)
    spread = (total**2 - np.square(answered).sum(axis=0)) * (total**2 - np.square(true).sum(axis=0))
    return _ratio(together, np.sqrt(spread))


Ranked = tuple[csr_matrix, csr_matrix]


def _ranked(scores: np.ndarray, positive: np.ndarray, rows: np.ndarray | None = None, count: int = 0) -> Ranked:
    """Scores from the highest down, cut at the positive ones: all that curves need to know of the order.

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


def _sums(lines: np.ndarray, rows: np.ndarray, count: int, width: int) -> csr_matrix:
    """Which row goes into which line; lines ascend, and those from ``count`` on are left out."""
    starts = np.searchsorted(lines, np.arange(count + 1))
    kept = rows[: starts[-1]]
    return csr_matrix((np.ones(len(kept), dtype=np.int8), kept.astype(np.int32), starts), shape=(count, width))


def _area(ranked: Ranked) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Area under the ROC curve: the share of pairs in which the positive row has the higher score; ties count half."""
    steps, hits = ranked

    def area(weights: np.ndarray, total: np.ndarray) -> np.ndarray:
        step, hit = steps @ weights, hits @ weights
        positives = hit.sum(axis=0)
        negatives = total - positives
        tied = step[1::2] - hit
        below = negatives - np.cumsum(step[::2] + tied, axis=0)
        pairs = positives * negatives
        return np.where(pairs > 0, (hit * (below + tied / 2)).sum(axis=0) / np.where(pairs > 0, pairs, 1), np.nan)

    return area


def _average_precision(ranked: Ranked) -> Callable[[np.ndarray], np.ndarray]:
    """Precision at each cut, weighted by the recall that the cut adds; 0 where nothing is true."""
    steps, hits = ranked

    def precision(weights: np.ndarray) -> np.ndarray:
        step, hit = steps @ weights, hits @ weights
        found = np.cumsum(hit, axis=0)
        at_cut = _ratio(found, np.cumsum(step[::2] + step[1::2], axis=0))
        return _ratio((hit * at_cut).sum(axis=0), hit.sum(axis=0))

    return precision


def _mid_ranks(numbers: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Ranks in each resample, shape (rows, resamples), and whether it has one number only; equal ones share their mean rank."""
    _, tie = np.unique(numbers, return_inverse=True)
    order = np.argsort(tie, kind="stable")
    sums = _sums(tie[order], order, int(tie.max()) + 1, len(tie))

    def ranks(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = sums @ weights
        return (np.cumsum(at, axis=0) - at / 2)[tie], (at > 0).sum(axis=0) == 1

    return ranks


def _products(one: np.ndarray, other: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The sum of products of two columns, each less its mean in the resample."""
    one, other = one - np.median(one), other - np.median(other)  # sums of large numbers would drown what differs
    columns = np.stack([one, other, one * other])

    def products(weights: np.ndarray, total: np.ndarray) -> np.ndarray:
        first, second, both = columns @ weights
        return both - first * second / total

    return products


def _rank_correlation(one: np.ndarray, other: np.ndarray, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Pearson's coefficient of mid-ranks of shape (rows, resamples), whose mean is half the number of rows."""
    one, other = one - total / 2, other - total / 2
    weighted = one * weights
    product, spread = np.einsum("nr,nr->r", weighted, other), np.einsum("nr,nr->r", weighted, one)
    other_spread = np.einsum("nr,nr,nr->r", other, other, weights)
    return product / np.sqrt(np.maximum(spread * other_spread, 1e-12))
