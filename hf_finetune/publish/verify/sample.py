"""A sample of evaluated rows, as inputs of ``pipeline()``, and facts about the model; ``verify`` then needs no data.

The rows are the user's data, so they are never pushed.
"""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState
from datasets import Dataset

from hf_finetune.errors import UserError
from hf_finetune.files import write_json
from hf_finetune.tasks.task import Task

FOLDER, FILE = "verify", "sample.json"
ROWS = 32
UNREADABLE = "(the file)"  # key in place of the settings
MOST_BYTES = 64_000_000  # of all images of a sample

# Settings that do not change the logits, or are compared in another way.
_IDLE = frozenset({"id2label", "label2id", "transformers_version", "_name_or_path", "base_model_name_or_path"})


def keep_sample(folder: Path, task: Task, rows: Dataset | None, labels: list[str], processor: Any) -> None:
    """Write ``verify/``: a sample of evaluated rows, the model's inputs for them, and facts about ``model/``.

    ``rows`` are the evaluated split, in the order of ``predictions.parquet``, or None if no rows were held out; ``labels`` are
    in the order of the logits; ``processor`` is the one that training used.
    """
    part = folder / f"{FOLDER}.partial"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    kept, left_out = ([], {}) if rows is None else _choose(part, task, rows, _strata(folder, rows), processor)
    sample = {
        "task": task.name,
        "device": PartialState().device.type,
        "labels": labels,
        "processor": task.input.facts.processor_facts(processor),
        "call": task.input.call_options(processor),
        **model_facts(folder / "model"),
        "left_out": left_out,
        "rows": kept,
    }
    write_json(part / FILE, sample)
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    part.rename(folder / FOLDER)


def read_sample(folder: Path) -> dict[str, Any]:
    """Return what :func:`keep_sample` wrote.

    Raises:
        UserError: the file is missing or broken.
    """
    path = folder / FOLDER / FILE
    try:
        sample = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = "the sample of evaluated rows is missing or cannot be read"
        raise UserError(what, where=str(path), fix="give the folder of a finished run.") from error
    if "call" not in sample:
        what = "the sample was written by an earlier version, and does not say how the pipeline is called"
        raise UserError(what, where=str(path), fix="verify the run with the version that made it, or train again.")
    return dict(sample)


def model_facts(folder: Path) -> dict[str, Any]:
    """Return facts from the files of a model, without loading it.

    ``settings`` are those in ``config.json`` and, for adapters, ``adapter_config.json``; ``base`` is the base checkpoint of
    an adapter; ``weights`` are type, shape and checksum of each tensor.
    """
    settings = {name: _read_json(folder / name) for name in ("config.json", "adapter_config.json")}
    base = settings["adapter_config.json"].get("base_model_name_or_path")
    weights = {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in _tensors(path).items()}
    kept = {name: {k: v for k, v in values.items() if k not in _IDLE} for name, values in settings.items() if values}
    return {"settings": kept, "base": base, "weights": weights}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        return {UNREADABLE: f"not valid JSON ({error})"}


def _tensors(path: Path) -> dict[str, str]:
    """Return type, shape and checksum of each tensor of a safetensors file, which may be truncated."""
    try:
        content = np.memmap(path, mode="r")
        start = 8 + int.from_bytes(content[:8].tobytes(), "little")
        header = json.loads(content[8:start].tobytes())
    except ValueError:
        return {path.name: "no safetensors header"}
    return {
        name: f"{tensor['dtype']} {tensor['shape']} {zlib.crc32(content[start + first : start + last].data):08x}"
        for name, tensor in header.items()
        if name != "__metadata__"
        for first, last in [tensor["data_offsets"]]
    }


def _choose(
    folder: Path, task: Task, rows: Dataset, strata: list[str], processor: Any
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the sample, and reason → number of rows that a pipeline cannot repeat."""
    order = list(dict.fromkeys([*task.input.odd_rows(rows), *_spread(strata)]))
    kept: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    for row in order[: 4 * ROWS]:
        if len(kept) == ROWS or sum(found.get("bytes", 0) for found in kept) > MOST_BYTES:
            break
        found = task.input.keep_row(folder, row, rows[row], processor)
        if isinstance(found, str):
            left_out[found] = left_out.get(found, 0) + 1
        else:
            kept.append({"row": row, **found})
    return kept, left_out


def _strata(folder: Path, rows: Dataset) -> list[str]:
    """Return the label and prediction of each row as one text."""
    frame = pd.read_parquet(folder / "predictions.parquet", columns=["label", "prediction"])
    if len(frame) != len(rows):
        raise RuntimeError(f"{len(frame)} predictions of {len(rows)} rows")
    return [f"{label} {prediction}" for label, prediction in zip(frame["label"], frame["prediction"], strict=True)]


def _spread(strata: list[str]) -> list[int]:
    """Return every row once: one of each stratum in turn, in random order within a stratum."""
    shuffled = pd.Series(strata).sample(frac=1, random_state=0)
    return shuffled.groupby(shuffled).cumcount().sort_values(kind="stable").index.tolist()
