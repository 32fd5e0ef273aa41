"""Raw outputs that are logits of shape (rows, labels): from the model, of chunks of longer texts, and as the Trainer gathers them."""

from __future__ import annotations

from typing import Any

import numpy as np


def predict_logits(model: Any, inputs: dict[str, Any]) -> np.ndarray:
    """Return the logits of a batch in float32, shape (rows, labels)."""
    logits: np.ndarray = model(**inputs).logits.float().cpu().numpy()
    return logits


def pool_chunks(logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mean of the logits of each row's chunks.

    Args:
        logits: shape (chunks, labels).
        rows: the row of each chunk, shape (chunks,).

    Returns:
        Shape (rows, labels), in the order of the rows' numbers, and of the type of the logits.
    """
    _, own = np.unique(rows, return_inverse=True)
    total = np.zeros((own.max() + 1, logits.shape[1]))
    np.add.at(total, own, logits)
    return (total / np.bincount(own)[:, None]).astype(logits.dtype)


def gather_rows(predictions: Any, labels: Any, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels of rows from those that the Trainer gathered.

    Args:
        predictions: logits, shape (rows or chunks, labels).
        labels: theirs, shape (rows or chunks, …).
        rows: the row of each chunk; ``--dataloader_drop_last`` leaves the last chunks out. None where rows are not chunks.
    """
    logits, labels = np.asarray(predictions, dtype=np.float64), np.asarray(labels)
    if rows is None:
        return logits, labels
    rows = rows[: len(logits)]
    _, first, own = np.unique(rows, return_index=True, return_inverse=True)
    if not np.array_equal(labels, labels[first][own]):
        raise RuntimeError("the chunks of a row came with different labels: they are not in the expected order")
    return pool_chunks(logits, rows), labels[first]
