"""Batches of encoded rows, and rows with cached activations in place of the inputs of the frozen stages."""

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
    """A dataset that returns whole batches: inputs of texts, labels, and ``activations`` of shape (rows, *cached_shape).

    Args:
        rows: the encoded split.
        stores: one store; or one per random view, and each epoch uses the next one.
        cut: where the model continues.
        collate: the task's collator, for the inputs of texts.
    """

    def __init__(self, rows: Any, stores: list[ActivationStore], cut: Cut, collate: Collate) -> None:
        self.rows = rows
        self.stores = stores
        self.cut = cut
        self.collate = collate
        # In shared memory, because persistent workers must see a new epoch.
        self.epoch = torch.frombuffer(mmap.mmap(-1, 8), dtype=torch.int64)
        self.labels = None if cut.whole is None or rows.labels is None else np.asarray(rows.labels)

    @property
    def column_names(self) -> list[str]:
        """Columns of encoded texts; the sampler groups rows by their length."""
        return list(getattr(self.rows, "column_names", []))

    def set_epoch(self, epoch: int) -> None:
        """Use the next random view from now on."""
        self.epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | str) -> Any:
        return self.rows[key] if isinstance(key, str) else self.__getitems__([key])

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        """Return a batch; the data loader of torch calls this with all its indices."""
        cached = self.stores[int(self.epoch) % len(self.stores)].read(np.asarray(indices))
        if self.cut.whole is not None:
            labels = {} if self.labels is None else {"labels": torch.from_numpy(self.labels[indices])}
            return labels | {KEY: cached}
        batch = self.collate([self.rows[int(index)] for index in indices])
        return batch | {KEY: unflatten(cached, batch["attention_mask"]) if self.cut.tokens else cached}


def pass_through(batch: Any) -> Any:
    """Return a batch unchanged: the collator of a dataset that returns whole batches."""
    return batch


def load_batch(rows: Any, collate: Collate, indices: np.ndarray) -> dict[str, Any]:
    """Return a batch of rows, read at once if the data set has ``__getitems__``, as torch's data loader does."""
    at_once = getattr(rows, "__getitems__", None)
    return collate(at_once(indices.tolist()) if at_once is not None else [rows[int(index)] for index in indices])


def model_inputs(batch: dict[str, Any], device: torch.device) -> dict[str, torch.Tensor]:
    """Return a batch without labels on a device."""
    return {key: value.to(device) for key, value in batch.items() if key != "labels"}


def lengths_of(rows: Any) -> np.ndarray:
    """Return the number of tokens of each text, shape (rows,); ones for other inputs."""
    if "length" in getattr(rows, "column_names", ()):
        return np.asarray(rows["length"][:])
    return np.ones(len(rows), dtype=np.int64)
