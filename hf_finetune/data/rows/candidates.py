"""Find pairs of rows with the same key, as candidates for comparison.

Time and memory are linear in the rows for any data: in a crowded bucket a row is paired only with its next neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK = 20_000  # pairs at once


def pair_codes(pairs: np.ndarray, rows: int) -> np.ndarray:
    """Return each pair as one number, shape (pairs,), for fast sorting."""
    return pairs[:, 0] * rows + pairs[:, 1]


def pairs_of(codes: list[np.ndarray], rows: int) -> np.ndarray:
    """Return the unique pairs of these codes, shape (pairs, 2)."""
    every = np.unique(np.concatenate(codes)) if codes else np.empty(0, dtype=np.int64)
    return np.stack([every // max(rows, 1), every % max(rows, 1)], axis=1)


def candidates(keys: np.ndarray, neighbours: int, then: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield chunks of pairs of rows with the same key: each row with its next neighbours, sorted by ``then``."""
    order = np.argsort(keys, kind="stable") if then is None else np.lexsort((then, keys))
    ordered = keys[order]
    for step in range(1, neighbours + 1):
        places = np.flatnonzero(ordered[:-step] == ordered[step:])
        for start in range(0, max(len(places), 1), CHUNK):
            part = places[start : start + CHUNK]
            yield np.sort(np.stack([order[part], order[part + step]], axis=1), axis=1)
