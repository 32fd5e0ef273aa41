"""Raw outputs of every row, in the order of the rows, in any number of processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hf_finetune.tasks.outputs.logits import pool_chunks, predict_logits
from hf_finetune.tasks.outputs.output import RawRows


def predict_rows(
    model: Any,
    rows: Any,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    batch_size: int,
    progress: Callable[[float], Any] | None = None,
    *,
    predict: Callable[[Any, dict[str, Any]], RawRows] = predict_logits,
    pool: Callable[[np.ndarray, np.ndarray], np.ndarray] = pool_chunks,
) -> np.ndarray:
    """Run a model over a split; each process takes its share, and every process gets the whole.

    Results are placed by row index and full coverage is checked, so that the rows which distributed samplers repeat to
    fill their batches cannot count twice. Texts are taken in the order of their length, which saves padding.

    Args:
        model: a classifier in evaluation mode.
        rows: map-style data set of model inputs; ``labels`` are passed over.
        collate: makes a batch of rows.
        batch_size: rows at once.
        progress: told of every batch which share of the rows it is; a bar is shown without it.
        predict: gives the raw output of each row of a batch; without it logits of shape (rows, labels).
        pool: makes one raw output a text where rows are chunks of longer texts (a column ``row`` says of which).

    Returns:
        Raw outputs, whose first axis is rows: a float32 array, or an object array of shape (rows,) where ``predict`` gives lists.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object
    from tqdm.auto import tqdm

    state = PartialState()
    model = model.to(state.device).eval()
    order = _by_length(rows)[state.process_index :: state.num_processes]
    found: list[tuple[np.ndarray, RawRows]] = []
    starts = range(0, len(order), batch_size)
    quiet = None if state.is_main_process and progress is None else True
    for start in tqdm(starts, desc="Predicting", disable=quiet, leave=False):
        indices = order[start : start + batch_size]
        batch = collate(_take(rows, indices))
        inputs = {key: value.to(state.device) for key, value in batch.items() if key != "labels"}
        with torch.inference_mode():
            found.append((indices, predict(model, inputs)))
        if progress is not None:
            progress(len(indices) / len(order))
    gathered = gather_object(found)
    raw = scatter_rows(gathered, len(rows))
    return pool(raw, np.asarray(rows["row"][:])) if "row" in getattr(rows, "column_names", ()) else raw


def scatter_rows(parts: list[tuple[np.ndarray, RawRows]], count: int) -> np.ndarray:
    """Put rows back where they belong.

    Args:
        parts: (indices, values): an array whose first axis is the indices, or a list of an array for each of them.
        count: number of rows that there must be.

    Raises:
        RuntimeError: a row is missing, or came twice.
    """
    indices = np.concatenate([part[0] for part in parts])
    if len(indices) != count or len(np.unique(indices)) != count:
        raise RuntimeError(f"{len(np.unique(indices))} of {count} rows came back, {len(indices)} in all")
    if isinstance(parts[0][1], np.ndarray):
        values = np.concatenate([part[1] for part in parts])
        result = np.empty_like(values)
        result[indices] = values
        return result
    result = np.empty(count, dtype=object)
    for own, rows in parts:
        for index, row in zip(own, rows, strict=True):
            result[index] = row
    return result


def _take(rows: Any, indices: np.ndarray) -> Any:
    """Rows one by one, or all at once where the data set offers that (as torch's loader does it)."""
    at_once = getattr(rows, "__getitems__", None)
    return at_once(indices.tolist()) if at_once is not None else [rows[int(index)] for index in indices]


def _by_length(rows: Any) -> np.ndarray:
    if "length" in getattr(rows, "column_names", ()):
        return np.argsort(np.asarray(rows["length"][:]), kind="stable")
    return np.arange(len(rows))
