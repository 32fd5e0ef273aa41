"""Fill a store: each process computes its share of the files."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.auto import tqdm

from hf_finetune.activations.cut import Cut
from hf_finetune.activations.rows import Collate, lengths_of, load_batch, model_inputs
from hf_finetune.activations.store import ActivationStore

_AHEAD = 2  # batches that are loaded in advance


def fill(store: ActivationStore, cut: Cut, rows: Any, collate: Collate, batch_size: int) -> None:
    """Compute and write the missing files of a store.

    The caller sets precision and evaluation mode; the model is on its device.

    Raises:
        OSError: a process could not write, for example because the disk is full.
        RuntimeError: a file is still missing although nothing failed.
    """
    state = PartialState()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # The second round is for machines that do not share a disk, and so lack the files of the others.
    for share, shares in ((state.process_index, state.num_processes), (state.local_process_index, local)):
        # By number, because the list of missing files changes while other processes write.
        mine = [number for number in store.missing() if number % shares == share]
        failures = [each for each in gather_object([_fill_share(store, cut, rows, collate, batch_size, mine)]) if each]
        if failures:
            raise OSError(failures[0])
        if not any(gather_object([bool(store.missing())])):
            return
    raise RuntimeError(f"{len(store.missing())} of {store.files} files of activations are missing in {store.folder}")


def _fill_share(
    store: ActivationStore, cut: Cut, rows: Any, collate: Collate, batch_size: int, files: list[int]
) -> str | None:
    """Compute and write some files; return the error message if writing fails."""
    quiet = None if PartialState().is_main_process and len(files) > 1 else True  # None: a bar on a terminal only
    groups = [store.rows_of(number) for number in files]
    results = zip(files, compute(cut, rows, collate, groups, batch_size), strict=True)
    try:
        for number, kept in tqdm(results, "Computing the frozen stages", len(files), disable=quiet, leave=False):
            store.write(number, kept)
    except OSError as error:
        return str(error)
    return None


def compute(cut: Cut, rows: Any, collate: Collate, groups: list[np.ndarray], batch_size: int) -> Iterator[torch.Tensor]:
    """Yield the cached tensor of each group of rows: (rows, *cached_shape), or (tokens of all rows, width)."""
    lengths = lengths_of(rows)
    orders = [np.argsort(lengths[group], kind="stable") for group in groups]  # little padding
    batches = _batches(rows, collate, [g[o] for g, o in zip(groups, orders, strict=True)], batch_size)
    device = next(cut.model.parameters()).device
    for group, order in zip(groups, orders, strict=True):
        parts: list[torch.Tensor] = []
        while len(parts) < len(group):
            batch = next(batches)
            with torch.no_grad():
                kept = cut.compute(model_inputs(batch, device)).cpu()
            parts += kept.split(batch["attention_mask"].sum(1).tolist()) if cut.tokens else list(kept)
        back = np.argsort(order)
        yield torch.cat([parts[i] for i in back]) if cut.tokens else torch.stack([parts[i] for i in back])


def _batches(
    rows: Any, collate: Collate, groups: list[np.ndarray], batch_size: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of inputs, each from one group; the next ones are loaded while the model computes."""
    jobs = [group[start : start + batch_size] for group in groups for start in range(0, len(group), batch_size)]
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: deque[Future[dict[str, Any]]] = deque()
        for job in jobs:
            ahead.append(pool.submit(load_batch, rows, collate, job))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
        yield from (batch.result() for batch in ahead)
