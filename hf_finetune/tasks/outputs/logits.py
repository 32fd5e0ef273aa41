"""Raw outputs that are logits of shape (rows, labels): from the model, from chunks, and from the Trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from hf_finetune.data.splits.splits import label_array

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_finetune.config import Config
    from hf_finetune.data import Splits


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
        Shape (rows, labels), in the order of row numbers, with the dtype of the logits.
    """
    _, own = np.unique(rows, return_inverse=True)
    total = np.zeros((own.max() + 1, logits.shape[1]))
    np.add.at(total, own, logits)
    return (total / np.bincount(own)[:, None]).astype(logits.dtype)


def gather_rows(predictions: Any, labels: Any, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels of rows from those gathered by the Trainer.

    Args:
        predictions: logits, shape (rows or chunks, labels).
        labels: shape (rows or chunks, …).
        rows: the row of each chunk, also of chunks that ``--dataloader_drop_last`` drops; None without chunks.
    """
    logits, labels = np.asarray(predictions, dtype=np.float64), np.asarray(labels)
    if rows is None:
        return logits, labels
    rows = rows[: len(logits)]
    _, first, own = np.unique(rows, return_index=True, return_inverse=True)
    if not np.array_equal(labels, labels[first][own]):
        raise RuntimeError("the chunks of a row came with different labels: they are not in the expected order")
    return pool_chunks(logits, rows), labels[first]


class LogitOutput:
    """The common part of outputs with logits or numbers of shape (rows, labels) as raw outputs."""

    NAME: ClassVar[str]
    names: list[str]

    truth_of = staticmethod(label_array)
    predict = staticmethod(predict_logits)
    pool = staticmethod(pool_chunks)
    gather = staticmethod(gather_rows)
    read_raw = staticmethod(np.stack)

    def unusable(self, split: Dataset) -> list[tuple[np.ndarray, str]]:
        """Return nothing: unreadable labels are errors."""
        return []

    def settings(self) -> dict[str, Any]:
        """Return the ``problem_type``."""
        return {"problem_type": self.NAME}

    def for_training(self, truth: np.ndarray) -> Self:
        """Return the output itself."""
        return self

    def start(self, model: Any, config: Config, splits: Splits) -> None:
        """Leave the head as it is."""

    def finish(self, model: Any) -> None:
        """Leave the model as it is."""

    def example(self) -> np.ndarray:
        """Return raw outputs of one row for which every class is predicted."""
        return np.full((1, len(self.names)), 50.0)

    def own_baseline(self, train: Dataset) -> tuple[str, Callable[[Dataset], np.ndarray]] | None:
        """Return None: the baseline is a linear model."""
        return None

    def label_errors(self, raw: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray] | None:
        """Return None: confident learning needs one class per row."""
        return None


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, shape (rows, classes)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, element by element."""
    return np.exp(-np.logaddexp(0, -logits))


def top_classes(names: list[str], probabilities: np.ndarray, count: int) -> dict[str, list[Any]]:
    """Return ``top_labels`` and ``top_probabilities`` of each row: lists of ``count`` values, or of all classes if fewer."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return {
        "top_labels": [[names[i] for i in row] for row in order],
        "top_probabilities": np.take_along_axis(probabilities, order, axis=1).tolist(),
    }
