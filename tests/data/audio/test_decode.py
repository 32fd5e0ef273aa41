"""Recordings of every kind become mono samples at one rate; broken ones are told apart, and never raise."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from hf_finetune.data.audio.augment import mask_spectrogram, view
from hf_finetune.data.audio.decode import AudioFacts, decode_fault, duration, inspect_audio, open_audio


def tone(seconds=0.5, rate=16_000, pitch=440.0, level=0.5):
    return level * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)


def encoded(samples, rate=16_000, form="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return {"bytes": file.getvalue(), "path": None}


@pytest.mark.parametrize(
    ("form", "subtype", "rate"),
    [("WAV", "PCM_16", 16_000), ("WAV", "PCM_24", 44_100), ("WAV", "FLOAT", 8_000), ("WAV", "PCM_U8", 22_050),
     ("WAV", "ULAW", 8_000), ("FLAC", "PCM_16", 48_000), ("OGG", "VORBIS", 44_100), ("MP3", "MPEG_LAYER_III", 44_100)],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_every_kind_is_mono_at_the_models_rate(form, subtype, rate, channels):
    samples = np.tile(tone(rate=rate)[:, None], (1, channels))
    cell = encoded(samples, rate, form, subtype)
    found = open_audio(cell, 16_000)
    assert found.dtype == np.float32
    assert abs(len(found) - 8_000) < 1_600  # MP3 adds silence
    spectrum = np.abs(np.fft.rfft(found[:8_000]))
    assert abs(np.argmax(spectrum) * 16_000 / min(8_000, len(found)) - 440) < 10
    facts = inspect_audio(cell, 16_000)[0]
    assert (facts.rate, facts.channels, facts.error) == (rate, channels, None)
    assert facts.peak == pytest.approx(0.5, abs=0.1)
    assert duration(cell, 16_000) == pytest.approx(len(found), abs=2_000)


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        (None, "no recording"),
        ({"bytes": None, "path": None}, "no recording"),
        ({"bytes": None, "path": "/no/such/file.wav"}, "No such file or directory"),
        ({"bytes": b"", "path": None}, "libsndfile cannot read it"),
        ({"bytes": b"not a recording at all", "path": None}, "libsndfile cannot read it: Format not recognised"),
        (encoded(np.zeros(0)), "it has no samples"),
        (encoded(np.full(100, np.nan), subtype="FLOAT"), "some samples are not finite numbers"),
    ],
    ids=["none", "empty cell", "gone", "no bytes", "text", "no samples", "not numbers"],
)  # fmt: skip
def test_what_cannot_be_read_is_said(cell, fault):
    assert decode_fault(cell).startswith(fault)
    assert inspect_audio(cell, 16_000)[0] == AudioFacts(error=decode_fault(cell))
    assert duration(cell, 16_000) in (0, 100)


def test_what_is_silent_or_clipped_is_seen():
    assert inspect_audio(encoded(np.zeros(1000)), 16_000)[0].peak == 0
    assert inspect_audio(encoded(np.clip(tone(level=3.0), -1, 1), subtype="FLOAT"), 16_000)[0].clipped > 0.3
    assert inspect_audio(encoded(tone(level=0.9)), 16_000)[0].clipped == 0


def test_views_change_samples_and_not_their_number():
    samples = tone().astype(np.float32)
    one, other, again = (view(samples, np.random.default_rng(seed)) for seed in (0, 1, 0))
    assert one.shape == samples.shape
    assert one.dtype == np.float32
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)


@pytest.mark.parametrize("frequencies", [0, 1])
def test_masks_cover_a_part_of_a_spectrogram(frequencies):
    values = np.random.default_rng(0).normal(size=(40, 100) if frequencies == 0 else (100, 40))
    found = mask_spectrogram(values, np.random.default_rng(3), frequencies)
    assert found.shape == values.shape
    assert 0 < (found != values).mean() < 0.3
