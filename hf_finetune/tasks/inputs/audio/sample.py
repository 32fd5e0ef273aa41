"""Recordings to check a model with: a sample of the run's rows as inputs of a pipeline, and noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_finetune.data.audio.decode import duration, open_audio
from hf_finetune.tasks.inputs.audio.encoding import features, filled, max_seconds
from hf_finetune.tasks.inputs.audio.facts import input_facts

LOOKED_AT = 1_000  # headers that are read to find unusual recordings


def call_options(processor: Any) -> dict[str, Any]:
    return {}


def odd_rows(rows: Any) -> list[int]:
    """Return the longest and the shortest recording."""
    looked = np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(int)).tolist()
    lengths = [duration(rows[row]["audio"], 16_000) for row in looked]
    return [looked[int(np.argmax(lengths))], looked[int(np.argmin(lengths))]]


def keep_row(folder: Path, row: int, cells: dict[str, Any], processor: Any) -> dict[str, Any] | str:
    samples = open_audio(cells["audio"], processor.sampling_rate)
    if len(samples) > round(max_seconds(processor) * processor.sampling_rate):
        return f"longer than {max_seconds(processor):g} seconds, which a pipeline reads in one piece"
    samples = filled(samples, processor.sampling_rate)
    file = folder / f"{row}.npy"
    np.save(file, samples)
    facts = input_facts(features(processor, [samples]))
    return {"input": file.name, "bytes": samples.nbytes, "facts": facts}


def probe(model: Any, processor: Any) -> dict[str, torch.Tensor]:
    noise = np.random.default_rng(0).normal(0, 0.1, (2, processor.sampling_rate)).astype(np.float32)
    return features(processor, list(noise))


def longest(batch: dict[str, torch.Tensor], processor: Any) -> dict[str, torch.Tensor]:
    """Return noise of the longest recording that is read at once."""
    count = round(max_seconds(processor) * processor.sampling_rate)
    return features(processor, [np.random.default_rng(0).normal(0, 0.1, count).astype(np.float32)])
