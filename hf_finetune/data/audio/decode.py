"""Decode recordings with libsndfile: mono, float32, at one sampling rate."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.errors import UserError

ENDINGS = frozenset({".wav", ".flac", ".ogg", ".mp3"})
NO_AUDIO = "no recording"
SILENT = 1e-4  # of the largest possible sample
FULL_SCALE = 0.999
MOST_SAMPLES = 500_000_000  # a recording of hours, in memory
UNKNOWN_SIZE = 2**31 - 1  # from here on a size in a header is that of a stream, whose end was not known
# What libsndfile says of a WAV that was cut short.
_CUT = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)


def require_audio() -> None:
    """Raise a ``UserError`` if a package is missing that ``hf-finetune[audio]`` installs."""
    from importlib.util import find_spec

    missing = [name for name in ("soundfile", "soxr") if find_spec(name) is None]
    if missing:
        what = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        raise UserError(what, where="recordings", fix="run pip install 'hf-finetune[audio]'.")


class DecodeFault(Exception):
    """A recording that cannot be read; the message says why, in a few words that are the same in every run."""


@dataclass(frozen=True)
class AudioFacts:
    """What a recording is; zeros for one that cannot be read."""

    seconds: float = 0.0
    rate: int = 0  # samples per second
    channels: int = 0
    format: str = ""  # e.g. ``WAV PCM_16``
    peak: float = 0.0  # largest sample, 1 at full scale
    clipped: float = 0.0  # share of samples at full scale, if three follow each other somewhere; else 0
    error: str | None = None  # why it cannot be used; None if it can


def open_audio(cell: Any, rate: int) -> np.ndarray:
    """Return the samples of a recording, float32 of shape (samples,), mixed to mono and resampled to ``rate``.

    Raises:
        DecodeFault: it cannot be read, or has no samples.
    """
    samples, own_rate, _ = _read(cell)
    return _resample(samples, own_rate, rate)


def duration(cell: Any, rate: int) -> int:
    """Return the samples of a recording at ``rate``, from its header; 0 if it cannot be read."""
    import soundfile

    try:
        found = soundfile.info(_source(cell))
    except (DecodeFault, soundfile.SoundFileError, OSError):
        return 0
    return round(found.frames * rate / found.samplerate)


def decode_fault(cell: Any) -> str | None:
    """Return why a recording cannot be used for training, in a few words; None if it can."""
    try:
        _read(cell)
    except DecodeFault as fault:
        return str(fault)
    return None


def inspect_audio(cell: Any, rate: int) -> tuple[AudioFacts, np.ndarray]:
    """Return what a recording is, and its samples at ``rate`` as :func:`open_audio` returns them.

    One that cannot be read has no samples, and ``error`` says why.
    """
    try:
        samples, own_rate, kind = _read(cell)
    except DecodeFault as fault:
        return AudioFacts(error=str(fault)), np.zeros(0, dtype=np.float32)
    loud = np.abs(samples) >= FULL_SCALE
    runs = loud[:-2] & loud[1:-1] & loud[2:]
    clipped = float(loud.mean()) if runs.any() else 0.0
    peak = float(np.abs(samples).max())
    facts = AudioFacts(len(samples) / own_rate, own_rate, samples.shape[1], kind, peak, clipped)
    return facts, _resample(samples, own_rate, rate)


def unreadable_audio(split: Any, rows: Iterable[int]) -> list[tuple[int, str]]:
    """Return those of the rows that cannot be decoded, each with the reason."""
    indices = list(rows)
    with ThreadPoolExecutor(max_workers=4) as pool:
        faults = pool.map(lambda row: decode_fault(split[row]["audio"]), indices)
        return [(row, fault) for row, fault in zip(indices, faults, strict=True) if fault]


def _resample(samples: np.ndarray, own_rate: int, rate: int) -> np.ndarray:
    """Return the mean of the channels at ``rate``, shape (samples,)."""
    import soxr

    mono = samples.mean(axis=1, dtype=np.float32)
    return mono if own_rate == rate else soxr.resample(mono, own_rate, rate).astype(np.float32)


def _source(cell: Any) -> Any:
    if cell is None or (cell.get("bytes") is None and cell.get("path") is None):
        raise DecodeFault(NO_AUDIO)
    return cell["path"] if cell.get("bytes") is None else io.BytesIO(cell["bytes"])


def _read(cell: Any) -> tuple[np.ndarray, int, str]:
    """Return the samples of shape (samples, channels), their rate, and the format in words."""
    import soundfile

    source = _source(cell)
    if isinstance(source, str) and not Path(source).is_file():
        raise DecodeFault("No such file or directory")
    try:
        with soundfile.SoundFile(source) as file:
            if file.frames > MOST_SAMPLES:
                raise DecodeFault(f"{file.frames} samples are too many for the memory")
            samples = file.read(dtype="float32", always_2d=True)
            rate, kind = file.samplerate, f"{file.format} {file.subtype}"
            promised = _CUT.search(file.extra_info)
    except soundfile.LibsndfileError as error:
        raise DecodeFault(f"libsndfile cannot read it: {error.error_string.rstrip('.')}") from error
    except (OSError, soundfile.SoundFileError, RuntimeError) as error:
        raise DecodeFault(str(getattr(error, "strerror", None) or error).splitlines()[0][:200]) from error
    if not len(samples):
        raise DecodeFault("it has no samples")
    if promised and int(promised[2]) < int(promised[1]) < UNKNOWN_SIZE:
        raise DecodeFault(f"it ends after {promised[2]} of {promised[1]} bytes of samples")
    if not np.isfinite(samples).all():
        raise DecodeFault("some samples are not finite numbers")
    return samples, rate, kind
