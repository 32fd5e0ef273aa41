"""Raw outputs of shape (rows, labels), logits or numbers: from the model, from chunks, and from the Trainer."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np

from hf_finetune.config.options import DataConfig
from hf_finetune.data.splits.splits import label_array
from hf_finetune.tasks.outputs.output import Output


@dataclass(frozen=True)
class RowStatistics:
    """The truth of each row, and in subclasses the other arrays that the metrics need; the first axis is rows."""

    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> Self:
        return type(self)(*(getattr(self, each.name)[rows] for each in fields(self)))

    @property
    def size(self) -> int:
        return self.labels.size


@dataclass(frozen=True)
class LogitOutput(Output):
    """The common part of outputs with raw outputs of shape (rows, labels)."""

    names: list[str]  # of the classes or targets
    columns: list[str] = field(default_factory=list, kw_only=True)  # the label columns

    truth_of = staticmethod(label_array)

    @staticmethod
    def predict(model: Any, inputs: dict[str, Any]) -> np.ndarray:
        logits: np.ndarray = model(**inputs).logits.float().cpu().numpy()
        return logits

    @staticmethod
    def pool(raw: np.ndarray, encoded: Any) -> np.ndarray:
        """Return the mean of the logits of each row's chunks, shape (rows, labels)."""
        _, own = np.unique(encoded["row"][:], return_inverse=True)
        total = np.zeros((own.max() + 1, raw.shape[1]))
        np.add.at(total, own, raw)
        return (total / np.bincount(own)[:, None]).astype(raw.dtype)

    def gather(self, predictions: Any, labels: Any, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        logits, labels = np.asarray(predictions, dtype=np.float64), np.asarray(labels)
        if rows is None:
            return logits, labels
        rows = rows[: len(logits)]  # --dataloader_drop_last drops chunks
        _, first, own = np.unique(rows, return_index=True, return_inverse=True)
        if not np.array_equal(labels, labels[first][own]):
            raise RuntimeError("the chunks of a row came with different labels: they are not in the expected order")
        return self.pool(logits, {"row": rows}), labels[first]

    def read_raw(self, cells: list[Any]) -> np.ndarray:
        return np.stack(cells)

    @classmethod
    def restore(cls, names: list[str], tuned: dict[str, Any]) -> Self:
        return cls(names, **{name: tuned[key] for key, name in cls.TUNED.items() if tuned.get(key)})

    def read_from(self, columns: list[str], options: DataConfig) -> Self:
        return replace(self, columns=columns)

    def example(self) -> np.ndarray:
        """Return raw outputs of one row for which every class is predicted."""
        return np.full((1, len(self.names)), 50.0)

    def in_order(self, names: list[str], raw: np.ndarray, truth: np.ndarray) -> tuple[Self, np.ndarray, np.ndarray]:
        order = [self.names.index(name) for name in names]
        truth = np.argsort(order)[truth] if truth.ndim == 1 else truth[:, order]
        return replace(self, names=list(names)), raw[:, order], truth
