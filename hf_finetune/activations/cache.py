"""The activation cache of a phase: find the cut, decide whether it pays, fill the stores, return rows with activations."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from hf_finetune.activations.cut import CannotCut, Cut, find_cut, frozen_depth
from hf_finetune.activations.decision import Cost, Decision, decide
from hf_finetune.activations.fill import compute, fill
from hf_finetune.activations.fingerprint import hash_prefix, is_store_name, name_store
from hf_finetune.activations.rows import ActivationDataset, Collate, pass_through
from hf_finetune.activations.store import ActivationStore
from hf_finetune.config.options import CacheConfig
from hf_finetune.console import is_main_process, say
from hf_finetune.files import cache_dir
from hf_finetune.models import Checkpoint

_SAMPLE = 64  # most rows that the time is measured on


@dataclass
class Workload:
    """What a phase or an evaluation is about to compute.

    Args:
        name: its name in messages, e.g. ``phase head``.
        rows: split → encoded rows.
        collate: makes batches of them.
        fingerprint: hash of the inputs of encoded rows and of the processor that makes them, which names a store.
        passes: how often each row is read.
        half: bfloat16 or float16 if the forward pass uses autocast; else None.
        batch_size: rows of a forward pass without gradients.
        views: describes the random views of the training rows, seed included; None if inputs do not change.
        obstacle: why activations cannot be cached, if the caller knows a reason.
    """

    name: str
    rows: dict[str, Any]
    collate: Collate
    fingerprint: Callable[[Any, Any], str]
    passes: float
    half: torch.dtype | None
    batch_size: int
    views: str | None = None
    obstacle: str = ""


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
    checkpoint.model.to(PartialState().device)
    try:
        with _computing(checkpoint.model, work.half):
            cut = find_cut(checkpoint.model, checkpoint.stages, depth, _probes(work))
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
    return "there are too few rows" if len(_first(work)) < 2 else ""


def _keep(cache: CacheConfig, checkpoint: Checkpoint, work: Workload, cut: Cut, depth: int) -> CachedRows:
    """Fill the stores of all splits if that pays; return the rows to train on."""
    root = Path(cache.activation_cache_dir or cache_dir() / "activations").expanduser()
    views = cache.activation_views if work.views is not None else 1
    prefix = hash_prefix(cut, checkpoint.stages, depth)
    stores = {
        split: _stores(root, checkpoint.processor, work, cut, prefix, split, views if split == "train" else 1)
        for split in work.rows
    }
    decision = _weigh(root, cache, [store for each in stores.values() for store in each], cut, work)
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
    lengths = np.asarray(rows["length"][:]) if cut.tokens else np.ones(len(rows), dtype=np.int64)
    precision = f"{PartialState().device.type} {work.half}"
    found = []
    for view in range(views):
        random = f"{work.views} view {view}" if work.views is not None and split == "train" else ""
        name = name_store(prefix, content, random, dtype, precision)
        found.append(ActivationStore(root / name, cut.cached_shape, dtype, lengths, tokens=cut.tokens))
    return found


def _weigh(root: Path, cache: CacheConfig, stores: list[ActivationStore], cut: Cut, work: Workload) -> Decision:
    """Return the decision of the main process, so that all processes do the same."""
    answer = [Decision(True, "found from an earlier run")]
    if is_main_process():
        missing = sum(store.missing_bytes() for store in stores)
        try:
            if missing:
                room = _make_room(root, missing, cache.activation_cache_max_gb, keep={store.folder for store in stores})
                views = cache.activation_views if work.views is not None else 1
                cost = _measure(stores[0], cut, work) if missing <= room else Cost(0, 0, 0)
                answer = [decide(cost, work.passes / views, missing, room)]
        except OSError as error:
            answer = [Decision(False, f"the folder cannot be written ({error})", impossible=True)]
    if PartialState().num_processes > 1:
        broadcast_object_list(answer)
    decision = answer[0]
    return replace(decision, cache=decision.cache or (cache.activation_cache == "on" and not decision.impossible))


def _measure(store: ActivationStore, cut: Cut, work: Workload) -> Cost:
    """Measure the seconds per row of computing, writing and reading the first missing file, or some rows of it."""
    missing = store.missing()
    whole = store.rows_of(missing[0] if missing else 0)
    indices = whole[:_SAMPLE]
    rows = _first(work)
    compute_seconds, activations = _timed(lambda: next(compute(cut, rows, work.collate, [indices], work.batch_size)))
    stays = bool(missing) and len(indices) == len(whole)
    trial = store if stays else store.trial(np.diff(store.offsets)[indices])
    try:
        write_seconds, _ = _timed(lambda: trial.write(missing[0] if stays else 0, activations))
        read_seconds, _ = _timed(lambda: trial.read(indices if stays else np.arange(len(indices))))
    finally:
        if not stays:
            shutil.rmtree(trial.folder, ignore_errors=True)
    return Cost(*(seconds / len(indices) for seconds in (compute_seconds, write_seconds, read_seconds)))


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = act()
    return time.perf_counter() - began, result


def _make_room(root: Path, needed: int, max_gb: float | None, keep: set[Path]) -> int:
    """Return the bytes that may be written; remove least recently used stores if that makes enough room."""
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    limit = free // 2 if max_gb is None else int(max_gb * 1e9)
    if max_gb is None:
        return limit
    # The user's folder may contain other files.
    stores = [folder for folder in root.iterdir() if folder.is_dir() and is_store_name(folder.name)]
    sizes = {folder: sum(path.stat().st_size for path in folder.glob("*.npy")) for folder in stores}
    used = sum(sizes.values())
    for folder in sorted(sizes.keys() - keep, key=lambda each: each.stat().st_mtime):
        if needed > limit or used + needed <= limit:
            break
        shutil.rmtree(folder, ignore_errors=True)
        used -= sizes[folder]
    return min(limit - used, free)


def _probes(work: Workload) -> list[dict[str, torch.Tensor]]:
    """Return two batches without labels, of up to five and three rows: long and short texts."""
    rows = _first(work)
    indices = np.unique(np.linspace(0, len(rows) - 1, 8).astype(np.int64))
    if "length" in getattr(rows, "column_names", ()):
        indices = indices[np.argsort(-np.asarray(rows["length"][:])[indices], kind="stable")]
    middle = max(1, min(5, len(indices) - 1))
    batches = [work.collate([rows[int(i)] for i in part]) for part in (indices[:middle], indices[middle:])]
    device = PartialState().device
    return [{key: value.to(device) for key, value in batch.items() if key != "labels"} for batch in batches]


def _first(work: Workload) -> Any:
    """Return the rows to measure times on: the training rows, if there are any."""
    return next(iter(work.rows.values()))


@contextmanager
def _computing(model: torch.nn.Module, half: torch.dtype | None) -> Iterator[None]:
    """Set evaluation mode and the precision of the run; restore the mode of every module afterwards."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = False
    try:
        device = PartialState().device.type
        with torch.autocast(device, dtype=half) if half is not None else nullcontext():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
