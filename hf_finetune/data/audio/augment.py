"""Random views of recordings: gain, shift and noise of samples, and SpecAugment of spectrograms (arXiv 1904.08779)."""

from __future__ import annotations

import numpy as np

GAIN_DECIBELS = 6.0
SHIFT = 0.1  # of the recording
NOISE_DECIBELS = (15.0, 40.0)  # of the recording above the noise
MASKED_FREQUENCIES, MASKED_TIMES = 0.15, 0.1  # largest share in one mask


def view(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a view of as many samples: louder or softer, shifted with silence at one end, and half of them with noise."""
    found = samples * np.float32(10 ** (random.uniform(-GAIN_DECIBELS, GAIN_DECIBELS) / 20))
    steps = int(random.uniform(-SHIFT, SHIFT) * len(samples))
    if steps:
        found = np.roll(found, steps)
        found[slice(0, steps) if steps > 0 else slice(steps, None)] = 0
    if random.random() < 0.5:
        level = np.sqrt(np.mean(np.square(found))) * 10 ** (-random.uniform(*NOISE_DECIBELS) / 20)
        found = found + random.normal(0, level, len(found)).astype(np.float32)
    return found.astype(np.float32)


def mask_spectrogram(values: np.ndarray, random: np.random.Generator, frequencies: int) -> np.ndarray:
    """Return a spectrogram with one mask of frequencies and one of times, at its mean; ``frequencies`` is their axis."""
    found = values.copy()
    for axis, share in ((frequencies, MASKED_FREQUENCIES), (1 - frequencies, MASKED_TIMES)):
        size = values.shape[axis]
        width = int(random.uniform(0, share) * size)
        start = int(random.integers(0, size - width + 1))
        place = [slice(None), slice(None)]
        place[axis] = slice(start, start + width)
        found[tuple(place)] = values.mean()
    return found
