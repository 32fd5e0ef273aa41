"""Decide from measured times and the room on disk whether caching activations pays."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list

from hf_finetune.activations.fingerprint import is_store_name
from hf_finetune.activations.store import ActivationStore
from hf_finetune.config.options import CacheConfig
from hf_finetune.console import is_main_process

_SAMPLE = 64  # most rows that the time is measured on
# A cache that costs so little compared with one pass is written for later runs: another head, rate or seed.
_NEGLIGIBLE = 0.02


@dataclass(frozen=True)
class Cost:
    """Seconds per row, measured on a few rows."""

    compute: float  # loading a row and running the frozen stages
    write: float  # writing its activations
    read: float  # reading them back


@dataclass(frozen=True)
class Decision:
    """Whether to cache activations, and why; ``impossible`` if they cannot be cached even on request."""

    cache: bool
    why: str
    impossible: bool = False


def weigh(
    cache: CacheConfig, stores: list[ActivationStore], passes: float, compute: Callable[[np.ndarray], torch.Tensor]
) -> Decision:
    """Return the decision of the main process, so that all processes do the same.

    Each row is read in ``passes`` epochs; ``compute`` returns the activations of rows of the first store.
    """
    answer = [Decision(True, "found from an earlier run")]
    if is_main_process():
        missing = sum(store.missing_bytes() for store in stores)
        try:
            if missing:
                keep = {store.folder for store in stores}
                room = make_room(stores[0].folder.parent, missing, cache.activation_cache_max_gb, keep)
                cost = _measure(stores[0], compute) if missing <= room else Cost(0, 0, 0)
                answer = [decide(cost, passes, missing, room)]
        except OSError as error:
            answer = [Decision(False, f"the folder cannot be written ({error})", impossible=True)]
    broadcast_object_list(answer)
    decision = answer[0]
    return replace(decision, cache=decision.cache or (cache.activation_cache == "on" and not decision.impossible))


def make_room(root: Path, needed: int, max_gb: float | None, keep: set[Path]) -> int:
    """Return the bytes that may be written; remove least recently used stores if that makes enough room."""
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if max_gb is None:
        return free // 2
    limit = int(max_gb * 1e9)
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


def _measure(store: ActivationStore, compute: Callable[[np.ndarray], torch.Tensor]) -> Cost:
    """Measure the times of the first missing file, or of some rows of it, which are then written elsewhere."""
    missing = store.missing()
    number = missing[0] if missing else 0
    rows = store.rows_of(number)[:_SAMPLE]
    compute_seconds, activations = _timed(lambda: compute(rows))
    stays = bool(missing) and len(rows) == len(store.rows_of(number))
    trial = store if stays else store.trial(np.diff(store.offsets)[rows])
    try:
        write_seconds, _ = _timed(lambda: trial.write(number if stays else 0, activations))
        read_seconds, _ = _timed(lambda: trial.read(rows if stays else np.arange(len(rows))))
    finally:
        if not stays:
            shutil.rmtree(trial.folder, ignore_errors=True)
    return Cost(*(seconds / len(rows) for seconds in (compute_seconds, write_seconds, read_seconds)))


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = act()
    return time.perf_counter() - began, result


def decide(cost: Cost, passes: float, size: int, room: int) -> Decision:
    """Compare the time that ``passes`` epochs save with that of writing and reading ``size`` of ``room`` available bytes."""
    if size > room:
        return Decision(
            False, f"{_gb(size)} are needed and {_gb(max(room, 0))} are available (--activation_cache_max_gb)", True
        )
    figures = f"the frozen stages take {_ms(cost.compute)} per row, reading their output {_ms(cost.read)}"
    times = f"over {passes:g} epochs" if passes > 1 else "once"
    spent = cost.write + passes * cost.read
    if cost.compute + spent < passes * cost.compute:
        return Decision(True, f"{figures}, {times}; {_gb(size)}")
    if spent < _NEGLIGIBLE * cost.compute:
        return Decision(True, f"{figures}, so later runs save this time; {_gb(size)}")
    return Decision(False, f"{figures}, writing it {_ms(cost.write)}: {times} this saves no time")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
