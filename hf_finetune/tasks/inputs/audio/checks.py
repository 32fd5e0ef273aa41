"""Check recordings: unreadable, silent, clipped and very short ones, their rates and channels, and near duplicates."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.audio.decode import SILENT, AudioFacts, inspect_audio, open_audio
from hf_finetune.data.rows.duplicates import similar_pairs
from hf_finetune.data.rows.finding import Section, Table, draw
from hf_finetune.tasks.inputs.audio.baseline import RATE, log_mel
from hf_finetune.tasks.inputs.audio.encoding import max_seconds
from hf_finetune.tasks.inputs.audio.row_input import NAMES
from hf_finetune.tasks.inputs.files import Inspected, Oddities, add_findings, readable_rows, without_unreadable

MOST_RECORDINGS = 50_000  # per split to inspect
CLIPPED, SHORT = 0.001, 0.1  # share of samples, and seconds
_BANDS, _TIMES, _SIMILAR, _NEIGHBOURS = 8, 16, 0.15, 30
# Copies at half the level, with noise 30 dB lower or as MP3: at least 0.956. Two recordings of a speaker and a word: at most 0.927.
_SAME = 0.95
_COMPARED = 60  # seconds from the beginning, as the waveforms of recordings of hours do not fit into memory together


def why_column(config: DataConfig, own: str, number: int) -> str:
    if config.audio_column:
        return "named by --audio_column"
    return "a usual name of recordings" if own.strip().lower() in NAMES else "the only column of recordings"


@dataclass(frozen=True)
class Heard(Inspected):
    """Facts about inspected recordings of a split, with coarse spectrograms."""

    spectrograms: np.ndarray  # shape (rows, 8, 16); 0 for unreadable recordings


@dataclass(frozen=True)
class AudioInspection:
    """The findings in the recordings of all splits."""

    section: Section
    splits: Splits  # without unreadable recordings
    whole: Splits  # with unreadable recordings
    heard: dict[str, Heard]  # of the original splits

    def comparable(self, rows: pd.DataFrame) -> pd.DataFrame:
        return readable_rows(self.heard, rows)

    def near(self, rows: pd.DataFrame) -> np.ndarray:
        parts = [
            self.heard[name].spectrograms[group["place"].to_numpy()]
            for name, group in rows.groupby("split", sort=False)
        ]
        whole = dict(self.whole.items())
        cells = [whole[name][int(row)]["audio"] for name, row in zip(rows["split"], rows["row"], strict=True)]
        heard = lru_cache(_NEIGHBOURS)(lambda place: open_audio(cells[place], RATE)[: _COMPARED * RATE].copy())
        pairs = near_recordings(np.concatenate(parts))
        same = [correlation(heard(left), heard(right)) >= _SAME for left, right in pairs.tolist()]
        return pairs[np.array(same, dtype=bool)]

    def add_processor(self, processor: Any) -> None:
        """Add what is resampled, mixed to mono, or read in chunks for a checkpoint."""
        good = [each for heard in self.heard.values() for each in heard.facts if not each.error]
        other = sum(each.rate != processor.sampling_rate for each in good)
        long = sum(each.seconds > max_seconds(processor) for each in good)
        several = sum(each.channels > 1 for each in good)
        for count, what in (
            (other, f"are resampled to {processor.sampling_rate:,} samples per second"),
            (several, "have several channels, and are mixed to mono"),
            (long, f"are longer than {max_seconds(processor):g} seconds, and are read in chunks"),
        ):
            if count:
                self.section.sentences.append(f"{count:,} of {len(good):,} recordings {what}.")


def inspect(splits: Splits, config: DataConfig) -> AudioInspection:
    say("Listening to the recordings.")
    heard = {name: _listen(split) for name, split in splits.items()}
    section = Section("Recordings", "recordings")
    table = []
    for name, split in splits.items():
        seen = heard[name]
        add_findings(section, name, split, seen, config.on_bad_audio, _ODD)
        good = [facts for facts in seen.facts if not facts.error]
        if good:
            seconds = np.sort([facts.seconds for facts in good])
            rates = ", ".join(f"{rate:,}" for rate in sorted({facts.rate for facts in good}))
            kinds = sorted({facts.format for facts in good})
            spread = f"{seconds[0]:.2f} / {np.median(seconds):.2f} / {seconds[-1]:.2f}"
            table.append((name, f"{len(seen.rows):,}", spread, rates, ", ".join(kinds)))
            section.facts[name] = {"looked_at": len(seen.rows), "seconds": float(seconds.sum()), "kinds": kinds}
    columns = ("split", "recordings", "seconds: shortest / median / longest", "samples per second", "kinds")
    section.tables.append(Table("", columns, table))
    return AudioInspection(section, without_unreadable(splits, heard), splits, heard)


def _listen(split: Any) -> Heard:
    rows = draw(len(split), MOST_RECORDINGS)
    with ThreadPoolExecutor(max_workers=4) as pool:
        seen = list(pool.map(lambda row: _hear(split[int(row)]["audio"]), rows))
    return Heard(
        rows, [facts for facts, _ in seen], np.array([coarse for _, coarse in seen]).reshape(-1, _BANDS, _TIMES)
    )


def _hear(cell: Any) -> tuple[AudioFacts, np.ndarray]:
    facts, samples = inspect_audio(cell, RATE)
    if facts.error:
        return facts, np.zeros((_BANDS, _TIMES))
    energies = log_mel(samples)
    bands = energies.reshape(len(energies), _BANDS, -1).mean(axis=2)
    parts = np.linspace(0, len(bands), _TIMES + 1).astype(int)
    coarse = np.stack([bands[low : max(high, low + 1)].mean(axis=0) for low, high in itertools.pairwise(parts)])
    return facts, (coarse - coarse.mean()).T  # without loudness


def near_recordings(spectrograms: np.ndarray) -> np.ndarray:
    """Return pairs of recordings with nearly the same coarse spectrogram, shape (pairs, 2), the smaller row first.

    A word that a speaker says twice is such a pair as well: only :func:`correlation` tells copies.
    """
    flat = spectrograms.reshape(len(spectrograms), -1)
    spread = flat.std(axis=1)

    def similar(pairs: np.ndarray) -> np.ndarray:
        left, right = pairs.T
        apart = np.abs(flat[left] - flat[right]).mean(axis=1)
        return apart <= _SIMILAR * np.minimum(spread[left], spread[right])

    # The loudest band of each part does not depend on the level; a quarter of the parts must agree in it.
    loudest = spectrograms.argmax(axis=1).reshape(len(flat), 4, -1)
    codes = (part @ (_BANDS ** np.arange(part.shape[1])) for part in np.moveaxis(loudest, 1, 0))
    return similar_pairs(codes, _NEIGHBOURS, similar)


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Return the largest correlation of two waveforms, from 0 to 1, over all shifts."""
    size = 1 << (len(left) + len(right) - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(left, size) * np.fft.rfft(right, size).conj(), size)
    return float(np.abs(product).max() / max(np.linalg.norm(left) * np.linalg.norm(right), 1e-12))


def _sound(wanted: Callable[[AudioFacts], object]) -> Callable[[AudioFacts], bool]:
    return lambda facts: not facts.error and bool(wanted(facts))


_SKIP = "fix or remove them; training can drop them with --on_bad_audio skip."
_ODD: Oddities = {
    "audio-unreadable": ("error", lambda f: f.error, "cannot be read", _SKIP),
    "audio-silent": ("warning", _sound(lambda f: f.peak < SILENT), "are silent", "remove them."),
    "audio-clipped": ("info", _sound(lambda f: f.clipped > CLIPPED), "are clipped", "record them at a lower level."),
    "audio-short": ("warning", _sound(lambda f: f.seconds < SHORT), f"are shorter than {SHORT:g} seconds", "remove them."),
}  # fmt: skip
