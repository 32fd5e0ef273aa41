"""Raw outputs that are logits of shape (rows, labels): from the model, of chunks, gathered by the Trainer, as probabilities."""

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


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, shape (rows, classes)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, element by element."""
    return np.exp(-np.logaddexp(0, -logits))


def top_classes(names: list[str], probabilities: np.ndarray, count: int) -> dict[str, list[Any]]:
    """Return ``top_labels`` and ``top_probabilities`` of each row: lists of ``count``, or as many as there are classes."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return {
        "top_labels": [[names[i] for i in row] for row in order],
        "top_probabilities": np.take_along_axis(probabilities, order, axis=1).tolist(),
    }
