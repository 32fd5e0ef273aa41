"""Texts that are read in chunks: one answer a row."""

from __future__ import annotations

import numpy as np


def pool_chunks(logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean of the logits of each row's chunks.

    Args:
        logits: shape (chunks, classes).
        rows: the row of each chunk, shape (chunks,).

    Returns:
        Shape (rows, classes), in the order of the rows' numbers, and of the type of the logits.
    """
    _, own = np.unique(rows, return_inverse=True)
    total = np.zeros((own.max() + 1, logits.shape[1]))
    np.add.at(total, own, logits)
    return (total / np.bincount(own)[:, None]).astype(logits.dtype)
