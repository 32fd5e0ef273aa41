"""Check recordings: unreadable, silent, clipped and very short ones, their rates and channels, and near duplicates."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.audio.decode import SILENT, AudioFacts, audio_facts, open_audio
from hf_finetune.data.rows.duplicates import similar_pairs
from hf_finetune.data.rows.finding import Section, Severity, Table, draw, percent, row_ids
from hf_finetune.tasks.inputs.audio.baseline import RATE, log_mel
from hf_finetune.tasks.inputs.audio.encoding import max_seconds
from hf_finetune.tasks.inputs.audio.row_input import NAMES

MOST_RECORDINGS = 50_000  # per split to inspect
CLIPPED, SHORT = 0.001, 0.1  # share of samples, and seconds
_BANDS, _TIMES, _SIMILAR, _NEIGHBOURS = 8, 16, 0.15, 30


def why_column(config: DataConfig, own: str, number: int) -> str:
    if config.audio_column:
        return "named by --audio_column"
    return "a usual name of recordings" if own.strip().lower() in NAMES else "the only column of recordings"


@dataclass(frozen=True)
class Heard:
    """Facts about inspected recordings of a split, with coarse spectrograms, shape (rows, 8, 16)."""

    rows: np.ndarray
    facts: list[AudioFacts]
    spectrograms: np.ndarray

    @property
    def readable(self) -> np.ndarray:
        """Return whether each recording can be read, shape (rows,)."""
        return np.array([not each.error for each in self.facts], dtype=bool)


@dataclass(frozen=True)
class AudioInspection:
    """The findings in the recordings of all splits."""

    section: Section
    splits: Splits  # without unreadable recordings
    heard: dict[str, Heard]  # of the original splits

    def comparable(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows with readable recordings; their ``place`` is their index in ``heard``."""
        seen = [
            pd.DataFrame({"split": name, "row": each.rows, "place": np.arange(len(each.rows))})[each.readable]
            for name, each in self.heard.items()
        ]
        return rows.merge(pd.concat(seen, ignore_index=True), on=["split", "row"], how="inner")

    def near(self, rows: pd.DataFrame) -> np.ndarray:
        parts = [
            self.heard[name].spectrograms[group["place"].to_numpy()]
            for name, group in rows.groupby("split", sort=False)
        ]
        return near_recordings(np.concatenate(parts))

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
    kept: dict[str, Any] = {}
    for name, split in splits.items():
        rows = np.setdiff1d(np.arange(len(split)), heard[name].rows[~heard[name].readable])
        kept[name] = split.select(rows) if len(rows) or name == "train" else None
    section = Section("Recordings", "recordings")
    table = []
    for name, split in splits.items():
        seen = heard[name]
        _report(section, name, split, seen, config.on_bad_audio)
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
    return AudioInspection(section, replace(splits, **kept), heard)


def _listen(split: Any) -> Heard:
    rows = draw(len(split), MOST_RECORDINGS)
    with ThreadPoolExecutor(max_workers=4) as pool:
        seen = list(pool.map(lambda row: _hear(split[int(row)]["audio"]), rows))
    return Heard(
        rows, [facts for facts, _ in seen], np.array([coarse for _, coarse in seen]).reshape(-1, _BANDS, _TIMES)
    )


def _hear(cell: Any) -> tuple[AudioFacts, np.ndarray]:
    facts = audio_facts(cell)
    if facts.error:
        return facts, np.zeros((_BANDS, _TIMES))
    energies = log_mel(open_audio(cell, RATE))
    bands = energies.reshape(len(energies), _BANDS, -1).mean(axis=2)
    parts = np.linspace(0, len(bands), _TIMES + 1).astype(int)
    coarse = np.stack([bands[low : max(high, low + 1)].mean(axis=0) for low, high in itertools.pairwise(parts)])
    return facts, (coarse - coarse.mean()).T  # without loudness


def near_recordings(spectrograms: np.ndarray) -> np.ndarray:
    """Return pairs of recordings with nearly the same coarse spectrogram, shape (pairs, 2), the smaller row first."""
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


def _report(section: Section, name: str, split: Any, seen: Heard, on_bad: str) -> None:
    for code, (severity, wanted, what, fix) in _ODD.items():
        places = [i for i, facts in enumerate(seen.facts) if wanted(facts)]
        if places:
            ids = row_ids(split, seen.rows[places])
            reasons = [seen.facts[i].error for i in places]
            named = [f"{own} ({reason})" if reason else own for own, reason in zip(ids, reasons, strict=False)]
            section.add(
                code,
                "warning" if severity == "error" and on_bad == "skip" else severity,
                f"{len(places):,} of {len(seen.facts):,} recordings ({percent(len(places), len(seen.facts))}) {what}",
                where=f"{name} split",
                rows=named,
                fix=fix,
            )


def _sound(wanted: Callable[[AudioFacts], object]) -> Callable[[AudioFacts], bool]:
    return lambda facts: not facts.error and bool(wanted(facts))


_SKIP = "fix or remove them; training can drop them with --on_bad_audio skip."
# Code → severity, which recordings, what is odd, and the fix.
_ODD: dict[str, tuple[Severity, Callable[[AudioFacts], object], str, str]] = {
    "audio-unreadable": ("error", lambda f: f.error, "cannot be read", _SKIP),
    "audio-silent": ("warning", _sound(lambda f: f.peak < SILENT), "are silent", "remove them."),
    "audio-clipped": ("info", _sound(lambda f: f.clipped > CLIPPED), "are clipped", "record them at a lower level."),
    "audio-short": ("warning", _sound(lambda f: f.seconds < SHORT), f"are shorter than {SHORT:g} seconds", "remove them."),
}  # fmt: skip
