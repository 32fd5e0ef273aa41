"""The activation cache of a phase: find the cut, decide whether it pays, fill the stores, return rows with activations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from hf_finetune.activations.cut import CannotCut, Cut, evaluating, find_cut, frozen_depth
from hf_finetune.activations.decision import weigh
from hf_finetune.activations.fill import compute, fill
from hf_finetune.activations.fingerprint import hash_prefix, name_store
from hf_finetune.activations.rows import ActivationDataset, Collate, lengths_of, load_batch, model_inputs, pass_through
from hf_finetune.activations.store import ActivationStore
from hf_finetune.config.options import CacheConfig
from hf_finetune.console import is_main_process, say
from hf_finetune.files import cache_dir
from hf_finetune.models import Checkpoint


@dataclass
class Workload:
    """What a phase or an evaluation is about to compute."""

    name: str  # in messages, e.g. ``phase head``
    rows: dict[str, Any]  # split → encoded rows; the times are measured on the first
    collate: Collate
    fingerprint: Callable[[Any, Any], str]  # (encoded rows, processor) → a hash of the inputs that names a store
    passes: float  # how often each row is read
    half: torch.dtype | None  # bfloat16 or float16 if the forward pass uses autocast
    batch_size: int  # rows of a forward pass without gradients
    views: str | None = None  # describes random views of the training rows, seed included; None if inputs do not change
    obstacle: str = ""  # why activations cannot be cached, if the caller knows a reason


@dataclass
class CachedRows:
    """Rows, cached or not, with their collator and the context in which the model reads them."""

    rows: dict[str, Any]
    collate: Collate
    replaying: Callable[[], AbstractContextManager[None]] = nullcontext


def cache_activations(cache: CacheConfig, checkpoint: Checkpoint, work: Workload) -> CachedRows:
    """Return rows with the activations of the frozen stages if that is possible and pays; else the rows unchanged.

    The decision and its reason are printed. The stages of the phase must be frozen already; the model is moved to its
    device.
    """
    plain = CachedRows(work.rows, work.collate)
    depth = frozen_depth(checkpoint.model, checkpoint.stages)
    if cache.activation_cache == "off" or depth == 0:
        return plain
    obstacle = _obstacle(cache, work)
    if obstacle:
        say(f"Activation cache: off in {work.name}: {obstacle}.")
        return plain
    device = PartialState().device
    checkpoint.model.to(device)
    try:
        with evaluating(checkpoint.model), torch.autocast(device.type, work.half, enabled=work.half is not None):
            batches = probes(next(iter(work.rows.values())), work.collate)
            cut = find_cut(checkpoint.model, checkpoint.stages, depth, batches)
            _check_lengths(cut, work)
            return _keep(cache, checkpoint, work, cut, depth)
    except CannotCut as error:
        say(f"Activation cache: off in {work.name}: {error}.")
    except OSError as error:
        say(f"Warning: activations cannot be cached ({error}); {work.name} computes its frozen stages in every epoch.")
    return plain


def _obstacle(cache: CacheConfig, work: Workload) -> str:
    if work.obstacle:
        return work.obstacle
    if work.views is not None and not cache.activation_views:
        return "its views are random (--activation_views K caches K of them, --augmentation none turns them off)"
    return "there are too few rows" if len(next(iter(work.rows.values()))) < 2 else ""


def _check_lengths(cut: Cut, work: Workload) -> None:
    """Check that the length of a row is the number of its tokens, for which its store has room."""
    if not cut.tokens:
        return
    rows = next(iter(work.rows.values()))
    tokens, length = int(load_batch(rows, work.collate, np.array([0]))["attention_mask"].sum()), lengths_of(rows)[0]
    if tokens != length:
        raise CannotCut(f"a row of length {length} has {tokens} tokens")


def probes(rows: Any, collate: Collate) -> list[dict[str, torch.Tensor]]:
    """Return two batches of inputs, of up to five and three rows: long and short texts."""
    indices = np.unique(np.linspace(0, len(rows) - 1, 8).astype(np.int64))
    indices = indices[np.argsort(-lengths_of(rows)[indices], kind="stable")]
    middle = max(1, min(5, len(indices) - 1))
    batches = [load_batch(rows, collate, part) for part in (indices[:middle], indices[middle:])]
    return [model_inputs(batch, PartialState().device) for batch in batches]


def _keep(cache: CacheConfig, checkpoint: Checkpoint, work: Workload, cut: Cut, depth: int) -> CachedRows:
    """Fill the stores of all splits if that pays; return the rows to train on."""
    root = Path(cache.activation_cache_dir or cache_dir() / "activations").expanduser()
    views = 1 if work.views is None else cache.activation_views
    prefix = hash_prefix(cut, checkpoint.stages, depth)
    stores = {
        split: _stores(root, checkpoint.processor, work, cut, prefix, split, views if split == "train" else 1)
        for split in work.rows
    }
    first = next(iter(work.rows.values()))
    decision = weigh(
        cache,
        [store for each in stores.values() for store in each],
        work.passes / views,
        lambda indices: next(compute(cut, first, work.collate, [indices], work.batch_size)),
    )
    if decision.cache or work.passes > 1:
        say(f"Activation cache: {'on' if decision.cache else 'off'} in {work.name}: {decision.why}.")
    if not decision.cache:
        return CachedRows(work.rows, work.collate)
    facts = {"model": checkpoint.name, "boundary": cut.boundary, "shape": cut.cached_shape}
    for split, rows in work.rows.items():
        for view, store in enumerate(stores[split]):
            if work.views is not None and split == "train":
                rows.set_epoch(view)
            fill(store, cut, rows, work.collate, work.batch_size)
            if is_main_process():
                store.finish(facts | {"dtype": str(store.dtype), "rows": len(store), "bytes": store.bytes})
    cached = {split: ActivationDataset(rows, stores[split], cut, work.collate) for split, rows in work.rows.items()}
    return CachedRows(cached, pass_through, cut.replaying)


def _stores(
    root: Path, processor: Any, work: Workload, cut: Cut, prefix: str, split: str, views: int
) -> list[ActivationStore]:
    """Return the stores of a split: one, or one per random view."""
    rows = work.rows[split]
    dtype = cut.dtype if work.half is None else work.half
    content = work.fingerprint(rows, processor)
    lengths = lengths_of(rows) if cut.tokens else np.ones(len(rows), dtype=np.int64)
    precision = f"{PartialState().device.type} {work.half}"
    found = []
    for view in range(views):
        random = f"{work.views} view {view}" if work.views is not None and split == "train" else ""
        name = name_store(prefix, content, random, dtype, precision)
        found.append(ActivationStore(root / name, cut.cached_shape, dtype, lengths, tokens=cut.tokens))
    return found
