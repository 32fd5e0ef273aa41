"""Features for the baseline of recordings: statistics of log-mel energies."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from hf_finetune.data.audio.decode import open_audio

RATE, BANDS, WINDOW, HOP = 16_000, 40, 400, 160


def baseline_features(parts: dict[str, Any], backbone: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return split → standardised statistics of each recording, shape (rows, features); ``backbone`` is not used."""
    from sklearn.preprocessing import StandardScaler

    found = {
        name: np.stack([statistics(log_mel(open_audio(row["audio"], RATE))) for row in split])
        for name, split in parts.items()
    }
    scaler = StandardScaler().fit(found["train"])
    return {name: scaler.transform(each) for name, each in found.items()}


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Return log-mel energies of 16 kHz samples, shape (frames, bands): 25 ms every 10 ms."""
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), 512, axis=1)) ** 2
    return np.log(power @ _filters() + 1e-8)


def statistics(energies: np.ndarray) -> np.ndarray:
    """Return mean, deviation, extremes and mean change of each band, and of each band in three parts; shape (features,)."""
    change = np.abs(np.diff(energies, axis=0)).mean(axis=0) if len(energies) > 1 else np.zeros(BANDS)
    thirds = [part.mean(axis=0) if len(part) else energies.mean(axis=0) for part in np.array_split(energies, 3)]
    found = [energies.mean(axis=0), energies.std(axis=0), energies.min(axis=0), energies.max(axis=0), change, *thirds]
    return np.concatenate(found)


@cache
def _filters() -> np.ndarray:
    from transformers.audio_utils import mel_filter_bank

    return mel_filter_bank(257, BANDS, 20.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
