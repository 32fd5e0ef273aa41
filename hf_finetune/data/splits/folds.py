"""Choose held-out rows and folds: stratified, by groups or by time; pure functions of arrays with a fixed seed.

``classes`` are the stratum of each row, ``groups`` its group, and ``share`` is of the rows of each class. All arrays and
masks have the shape (rows,).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_finetune.data.splits.splits import SPLIT_SEED
from hf_finetune.errors import UserError


def fold_of(classes: Any, groups: Any, num_folds: int) -> np.ndarray:
    """Return the fold of every row, 0 to ``num_folds - 1``; folds have similar sizes and are stratified.

    Rows of a group share a fold; ``groups`` are sortable, or None. The same rows get the same folds in every run.

    Raises:
        UserError: there are fewer rows or groups than folds.
    """
    classes = np.asarray(classes)
    random = np.random.default_rng(SPLIT_SEED)
    units = len(classes) if groups is None else len(np.unique(groups))
    if units < num_folds:
        raise UserError(
            f"{units} {'rows' if groups is None else 'groups'} do not make {num_folds} folds",
            where="--num_folds",
            fix=f"give {units} or less." if units > 1 else "leave it out.",
        )
    if groups is not None:
        numbers = np.unique(groups, return_inverse=True)[1]
        return deal_groups(classes, numbers, np.full(num_folds, 1 / num_folds), random)
    # Deal shuffled classes in turn, without restarting for each class: so both classes and fold sizes are even.
    shuffled = random.permutation(len(classes))
    folds = np.empty(len(classes), dtype=np.int64)
    folds[shuffled[np.argsort(classes[shuffled], kind="stable")]] = np.arange(len(classes)) % num_folds
    return folds


def default_share(rows: int) -> float:
    """Return the share of rows to hold out for validation, unless the user named one."""
    return 0.1 if rows < 5000 else 0.05


def stratified_out(classes: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Return a mask that holds out the same share of every class.

    Of a class with two rows or more, at least one is held out and at least one stays; a single row stays.
    """
    out = np.zeros(len(classes), dtype=bool)
    starts = np.unique(np.sort(classes), return_index=True)[1]
    for alike in np.split(np.argsort(classes, kind="stable"), starts[1:]):
        rows = random.permutation(alike)
        out[rows[: min(max(1, round(share * len(rows))), len(rows) - 1)]] = True
    return out


def groups_out(
    classes: np.ndarray, groups: np.ndarray, share: float, random: np.random.Generator, *, keep_classes: bool
) -> np.ndarray:
    """Return a mask that holds out whole groups, numbered from 0, with about this share of every class.

    At least one group stays, and with ``keep_classes`` rows of each class; at least one group is held out if possible,
    otherwise the mask is all false.
    """
    stay = _groups_that_stay(classes if keep_classes else np.zeros_like(classes), groups)
    side = deal_groups(classes, groups, np.array([1 - share, share]), random, first_bin=stay)
    if not side.any():
        sizes = np.bincount(groups).astype(np.float64)
        sizes[stay] = np.inf
        if np.isfinite(sizes.min()):
            return groups == sizes.argmin()
    return side == 1


def _groups_that_stay(classes: np.ndarray, groups: np.ndarray) -> list[int]:
    """Return a few groups that cover every class: the largest group of each class, rare classes first."""
    number = int(groups.max()) + 1
    labels, classes = np.unique(classes, return_inverse=True)
    pairs, counts = np.unique(classes * number + groups, return_counts=True)
    starts = np.searchsorted(pairs // number, np.arange(len(labels) + 1))
    stay: list[int] = []
    for label in np.argsort(np.diff(starts), kind="stable"):
        part = slice(starts[label], starts[label + 1])
        those = pairs[part] % number
        if not np.isin(those, stay).any():
            stay.append(int(those[counts[part].argmax()]))
    return stay


def deal_groups(
    classes: np.ndarray,
    groups: np.ndarray,
    shares: np.ndarray,
    random: np.random.Generator,
    first_bin: list[int] | None = None,
) -> np.ndarray:
    """Return the bin of each row, dealing whole groups so that each bin gets about its share of every class and of all rows.

    Greedy, largest group first: each goes to the bin that lacks most rows of its classes, as in scikit-learn's
    ``StratifiedGroupKFold``, but for bins of any size and for many groups.

    Args:
        classes: stratum of each row.
        groups: group number of each row, from 0.
        shares: share of each bin, summing to 1, shape (bins,).
        random: orders groups of the same size.
        first_bin: groups that must go into the first bin.
    """
    labels, classes = np.unique(classes, return_inverse=True)
    pairs, counts = np.unique(groups.astype(np.int64) * len(labels) + classes, return_counts=True)
    of_group, of_class = pairs // len(labels), pairs % len(labels)
    sizes, totals = np.bincount(groups), np.bincount(classes)
    starts = np.searchsorted(of_group, np.arange(len(sizes) + 1))
    missing = shares[:, None] * totals  # rows of each class that a bin still lacks
    missing_rows = shares * len(groups)
    weights = 1 / totals.astype(np.float64) ** 2
    order = random.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    forced = np.isin(np.arange(len(sizes)), first_bin or [])
    order = order[np.argsort(~forced[order], kind="stable")]
    chosen = np.empty(len(sizes), dtype=np.int64)
    for group in order.tolist():
        part = slice(starts[group], starts[group + 1])
        those, rows = of_class[part], counts[part]
        need = missing[:, those] @ (rows * weights[those]) + missing_rows * (sizes[group] / len(groups) ** 2)
        best = 0 if forced[group] else int(need.argmax())
        missing[best, those] -= rows
        missing_rows[best] -= sizes[group]
        chosen[group] = best
    return chosen[groups]


def latest(times: np.ndarray, share: float) -> np.ndarray:
    """Return a mask of about this share of all rows, the latest; rows of equal time stay together. All false for one time."""
    moments, counts = np.unique(times, return_counts=True)
    if len(moments) < 2:
        return np.zeros(len(times), dtype=bool)
    from_here_on = counts[::-1].cumsum()[::-1][1:]
    return times >= moments[1:][np.abs(from_here_on - share * len(times)).argmin()]
