"""Filling a store: each process its share of the files, each row once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.auto import tqdm

from hf_finetune.activations.cut import Cut
from hf_finetune.activations.rows import Collate
from hf_finetune.activations.store import ActivationStore


def fill(store: ActivationStore, cut: Cut, rows: Any, collate: Collate, batch_size: int) -> None:
    """Compute the files that are missing, and check that every row is there.

    The caller sets precision and mode; the model is on its device.

    Raises:
        OSError: some process could not write, a full disk for example.
        RuntimeError: a file is still missing although nothing failed.
    """
    state = PartialState()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # The second round is for machines that do not share a disk: what others wrote is not seen there.
    for share, shares in ((state.process_index, state.num_processes), (state.local_process_index, local)):
        # By their numbers: what is missing changes while the others write.
        mine = [number for number in store.missing() if number % shares == share]
        trouble = _fill_share(store, cut, rows, collate, batch_size, mine)
        found = [each for each in gather_object([trouble]) if each]
        if found:
            raise OSError(found[0])
        if not any(gather_object([bool(store.missing())])):
            return
    raise RuntimeError(f"{len(store.missing())} of {store.files} files of activations are missing in {store.folder}")


def _fill_share(
    store: ActivationStore, cut: Cut, rows: Any, collate: Collate, batch_size: int, files: list[int]
) -> str | None:
    """Compute and write some files; what the system says if it cannot."""
    quiet = None if PartialState().is_main_process and len(files) > 1 else True  # None: shown on a terminal only
    try:
        for number in tqdm(files, desc="Computing the frozen stages", disable=quiet, leave=False):
            store.write(number, compute(cut, rows, collate, store.rows_of(number), batch_size))
    except OSError as error:
        return str(error)
    return None


def compute(cut: Cut, rows: Any, collate: Collate, indices: np.ndarray, batch_size: int) -> torch.Tensor:
    """What is kept of these rows, in their order: (rows, *shape), or all their tokens one after the other."""
    order = np.argsort(_lengths(rows, indices), kind="stable")  # little padding
    parts: list[torch.Tensor] = []
    device = next(cut.model.parameters()).device
    with torch.no_grad():
        for batch in _batches(rows, collate, indices[order], batch_size):
            inputs = {key: value.to(device) for key, value in batch.items() if key != "labels"}
            kept = cut.compact(cut.capture(inputs), inputs.get("attention_mask")).cpu()
            parts += kept.split(batch["attention_mask"].sum(1).tolist()) if cut.tokens else list(kept)
    back = np.argsort(order)
    return torch.cat([parts[i] for i in back]) if cut.tokens else torch.stack([parts[i] for i in back])


def _batches(rows: Any, collate: Collate, indices: np.ndarray, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of inputs; the next one is decoded while the model computes."""

    def load(start: int) -> dict[str, torch.Tensor]:
        return collate([rows[int(index)] for index in indices[start : start + batch_size]])

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(load, 0)
        for start in range(batch_size, len(indices) + batch_size, batch_size):
            batch = ahead.result()
            if start < len(indices):
                ahead = pool.submit(load, start)
            yield batch


def _lengths(rows: Any, indices: np.ndarray) -> np.ndarray:
    if "length" in getattr(rows, "column_names", ()):
        return np.asarray(rows["length"])[indices]
    return np.zeros(len(indices))
