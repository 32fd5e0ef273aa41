"""Rows of a split that bring their activations instead of what the frozen stages would read."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hf_finetune.activations.cut import KEY, Cut, unflatten
from hf_finetune.activations.store import ActivationStore

Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]


class ActivationDataset(torch.utils.data.Dataset):
    """Whole batches by their indices: inputs of texts, labels, and ``activations`` of shape (rows, *kept shape).

    Args:
        rows: the split as the task encodes it.
        stores: one; or one a random view, of which each epoch takes the next.
        cut: where the model goes on.
        collate: the task's, for the inputs of texts.
    """

    def __init__(self, rows: Any, stores: list[ActivationStore], cut: Cut, collate: Collate) -> None:
        self.rows = rows
        self.stores = stores
        self.cut = cut
        self.collate = collate
        # In memory that workers share: they may outlive the epoch in which they were started.
        self.epoch = torch.frombuffer(mmap.mmap(-1, 8), dtype=torch.int64)
        self.labels = None if cut.pixels is None or rows.labels is None else np.asarray(rows.labels)

    @property
    def column_names(self) -> list[str]:
        """Those of texts: their lengths are grouped by."""
        return list(getattr(self.rows, "column_names", []))

    def set_epoch(self, epoch: int) -> None:
        """Take the next view from now on."""
        self.epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | str) -> Any:
        return self.rows[key] if isinstance(key, str) else self.__getitems__([key])

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        """A batch; torch's loader asks for it in one go."""
        kept = self.stores[int(self.epoch) % len(self.stores)].read(np.asarray(indices))
        if self.cut.pixels is not None:
            labels = {} if self.labels is None else {"labels": torch.from_numpy(self.labels[indices])}
            return labels | {KEY: kept}
        batch = self.collate([self.rows[int(index)] for index in indices])
        return batch | {KEY: unflatten(kept, batch["attention_mask"]) if self.cut.tokens else kept}


def pass_through(batch: Any) -> Any:
    """The collator of rows that come as batches."""
    return batch
