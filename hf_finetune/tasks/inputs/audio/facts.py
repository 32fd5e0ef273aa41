"""Facts about model inputs of recordings. The fresh process of ``verify`` runs this file, so it cannot import this package."""

from __future__ import annotations

from typing import Any

import numpy as np

SETTINGS = (
    "sampling_rate", "feature_size", "padding_value", "do_normalize", "return_attention_mask", "n_fft", "hop_length",
    "chunk_length", "num_mel_bins", "max_length", "mean", "std", "max_seconds", "padding_side", "dither",
)  # fmt: skip
VALUES = 16  # compared per recording


def processor_facts(processor: Any) -> dict[str, Any]:
    """Return the settings of a feature extractor that change the model's inputs."""
    found = {name: getattr(processor, name, None) for name in SETTINGS}
    return {name: value for name, value in found.items() if value is not None}


def pipeline_input(item: Any) -> Any:
    """Return the samples of a recording that was kept at the model's rate."""
    return np.load(item)


def input_facts(inputs: Any) -> dict[str, Any]:
    """Return shape, mean, deviation and some values of one recording's input, a batch of one."""
    name = next(iter(inputs))
    values = inputs[name][0].float()
    flat = values.flatten()
    return {
        "shape": list(values.shape),
        "mean": [float(values.mean())],
        "std": [float(values.std())],
        "pixels": flat[:: max(1, len(flat) // VALUES)][:VALUES].tolist(),
    }
