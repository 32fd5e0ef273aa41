"""Encode recordings: samples at the model's rate in chunks, random views, and batches; hashes for the names of caches."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from hf_finetune.config.options import InputConfig
from hf_finetune.console import say
from hf_finetune.data.audio.augment import mask_spectrogram, view
from hf_finetune.data.audio.decode import DecodeFault, duration, open_audio, unreadable_audio
from hf_finetune.data.rows.file_keys import file_identity
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError, first_line
from hf_finetune.models import Checkpoint, load_preprocessing
from hf_finetune.tasks.inputs.audio.window import cut_window, window_of
from hf_finetune.tasks.inputs.chunks import InChunks

SETTING, ALONE = "max_seconds", "batches_of_one_length"  # their keys in preprocessor_config.json
LONGEST = 10.0  # seconds that are read at once by default, at most
SHARE = 0.99  # of the training recordings that fit a window
SAME = 1e-5  # relative difference of equal logits
SHORTEST = 0.1  # seconds; shorter recordings are filled up with silence, as models of samples need some
OVERLAP = 8  # neighbouring chunks share an eighth


def checkpoint_name(name: str) -> str:
    return name


def load_processor(name: str, **options: Any) -> Any:
    fix = "name an audio checkpoint with its preprocessor_config.json."
    found = load_preprocessing("AutoFeatureExtractor", "feature extractor", name, fix, **options)
    if not hasattr(found, "sampling_rate"):
        what = f"its feature extractor ({type(found).__name__}) does not read recordings"
        raise UserError(what, where=f"--model_name_or_path {name}", fix=fix)
    return found


def prepare(checkpoint: Checkpoint, inputs: InputConfig, rows: Any = None) -> None:
    """Set the longest recording that is read at once, cut the model's window to it, and try both on silence."""
    from transformers.integrations import is_deepspeed_zero3_enabled

    processor = checkpoint.processor
    window = window_of(processor)
    wanted = inputs.max_seconds
    if wanted and window and wanted > window:
        what = f"the checkpoint reads at most {window:g} seconds, not {wanted:g}"
        raise UserError(
            what, where="--max_seconds", fix=f"give {window:g} or less; longer recordings are read in chunks."
        )
    seconds, reason = wanted or min(window or LONGEST, LONGEST), "longer recordings are read in chunks"
    if window and not wanted and rows is not None and not isinstance(rows, Stream):
        needed = _seconds_of_most(rows, processor.sampling_rate)
        if needed < seconds:
            seconds, reason = needed, f"{SHARE:.0%} of the training recordings are not longer"
    setattr(processor, SETTING, float(seconds))
    if is_deepspeed_zero3_enabled():  # the weights are partitioned until training begins
        return
    if cut_window(checkpoint, math.ceil(seconds)):
        say(f"Window: {math.ceil(seconds)} of {window:g} seconds, as {reason}.")
    silence = np.zeros(round(max_seconds(processor) * processor.sampling_rate), dtype=np.float32)
    try:
        with torch.no_grad():
            checkpoint.model.eval()(**features(processor, [silence]))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the model cannot read {max_seconds(processor):g} seconds ({first_line(error)})",
            where=f"--model_name_or_path {checkpoint.name}",
            fix="give other --max_seconds, or choose another checkpoint.",
        ) from error
    if window is None:
        setattr(processor, ALONE, _depends_on_others(checkpoint.model, processor))


@torch.no_grad()
def _depends_on_others(model: Any, processor: Any) -> bool:
    """Return whether a recording has other logits in a batch with a longer one, to which it is filled up.

    It has if the model has no mask for what is filled up, or normalises over it.
    """
    longest = round(min(1.0, max_seconds(processor)) * processor.sampling_rate)
    noise = np.random.default_rng(0).normal(0, 0.1, longest).astype(np.float32)
    short = filled(noise[: longest // 2], processor.sampling_rate)
    alone, filled_up = (model(**features(processor, batch)).logits[0].float() for batch in ([short], [short, noise]))
    return bool((alone - filled_up).abs().max() > SAME * alone.abs().max())


def _seconds_of_most(rows: Any, rate: int) -> int:
    """Return the whole seconds that hold nearly all recordings, by their headers."""
    lengths = [duration(cell, rate) for cell in rows["audio"]]
    return max(1, math.ceil(np.quantile(lengths, SHARE, method="higher") / rate))


def max_seconds(processor: Any) -> float:
    """Return the longest recording that is read at once."""
    return float(getattr(processor, SETTING, None) or min(window_of(processor) or LONGEST, LONGEST))


def features(processor: Any, samples: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """Return the model inputs of recordings; those without a window are filled up to the longest of them."""
    padding = {} if window_of(processor) else {"padding": True}
    return dict(processor(samples, sampling_rate=processor.sampling_rate, return_tensors="pt", **padding))


@dataclass(eq=False)
class Recordings(torch.utils.data.Dataset):
    """Rows of a split as samples, in chunks; a chunk is an item with ``audio``, and ``labels`` if the split has them.

    ``row`` is the number of the recording of each chunk, ``length`` its samples. A random view depends only on the seed,
    the epoch and the chunk.
    """

    split: Any
    rate: int
    longest: int  # samples at once
    views: InputConfig | None
    same_length: bool  # whether only chunks of one length may share a batch, so that nothing is filled up

    def __post_init__(self) -> None:
        lengths = [duration(self.split[row]["audio"], self.rate) for row in range(len(self.split))]
        self.chunks = [
            (row, start, min(self.longest, count - start) or count)
            for row, count in enumerate(lengths)
            for start in starts(count, self.longest)
        ]
        labels = self.split["label"][:] if "label" in self.split.column_names else None
        self.labels = None if labels is None else [labels[row] for row, *_ in self.chunks]
        self.last: tuple[int, np.ndarray] = -1, np.zeros(0, dtype=np.float32)
        self.seed = torch.initial_seed()
        self.epoch = torch.frombuffer(mmap.mmap(-1, 8), dtype=torch.int64)  # in shared memory, for persistent workers

    @property
    def column_names(self) -> list[str]:
        """Columns that can be read by name."""
        return ["row", "length"]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which random views depend."""
        self.epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return [chunk[0 if key == "row" else 2] for chunk in self.chunks]
        row, start, _ = self.chunks[key]
        samples = self._samples(row)[start : start + self.longest]
        item: dict[str, Any] = {"audio": filled(samples, self.rate)}
        if self.views is not None:
            item |= random_view(item["audio"], self.views, (self.seed, int(self.epoch), key))
        return item | ({} if self.labels is None else {"labels": self.labels[key]})

    def _samples(self, row: int) -> np.ndarray:
        """Return the samples of a recording; the last one is kept, because chunks are often read one after another."""
        if self.last[0] != row:
            self.last = row, open_audio(self.split[row]["audio"], self.rate)
        return self.last[1]


def starts(count: int, longest: int) -> list[int]:
    """Return the first sample of each chunk of a recording; the last chunk ends where it does."""
    if count <= longest:
        return [0]
    step = longest - longest // OVERLAP
    return [*range(0, count - longest, step), count - longest]


def filled(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return samples with silence behind very short ones."""
    return np.pad(samples, (0, max(0, round(SHORTEST * rate) - len(samples))))


def random_view(samples: np.ndarray, views: InputConfig, seed: tuple[int, int, int]) -> dict[str, Any]:
    random = np.random.default_rng([value % 2**63 for value in seed])
    found: dict[str, Any] = {"audio": view(samples, random)}
    return found | ({"masks": int(random.integers(2**31))} if views.augmentation == "randaug" else {})


def encode(split: Any, processor: Any, views: InputConfig | None = None, image_cache: str | None = None) -> Any:
    """Return the samples of every recording at the model's rate; recordings longer than ``max_seconds`` are in chunks."""
    rate = int(processor.sampling_rate)
    longest = round(max_seconds(processor) * rate)
    if isinstance(split, Stream):
        return split.encoded(partial(_encode_rows, split, rate, longest, views))
    without_mask = window_of(processor) is None and not getattr(processor, "return_attention_mask", False)
    return Recordings(split, rate, longest, views, getattr(processor, ALONE, without_mask))


def _encode_rows(
    stream: Stream, rate: int, longest: int, views: InputConfig | None, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the inputs of a batch of rows, without unreadable ones; of a long recording, one chunk at random."""
    found = []
    for row in rows:
        random = np.random.default_rng([stream.seed % 2**63, row["epoch"], row["row"]])
        try:
            samples = open_audio(row["audio"], rate)
        except DecodeFault:
            kept = {each["row"]: each for each in rows}
            faults = dict(unreadable_audio(kept, kept))
            return _encode_rows(stream, rate, longest, views, stream.drop_unreadable(rows, faults))
        start = int(random.integers(0, max(1, len(samples) - longest + 1)))
        item: dict[str, Any] = {"audio": filled(samples[start : start + longest], rate)}
        if views is not None:
            item |= random_view(item["audio"], views, (stream.seed, row["epoch"], row["row"]))
        found.append(item | {"labels": row["label"]})
    return found


def collator(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return a function from samples to the model's inputs, spectrograms or samples, as a batch."""
    return partial(_collate, processor)


def _collate(processor: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    batch = features(processor, [row["audio"] for row in rows])
    name = next(iter(batch))
    if "masks" in rows[0] and batch[name].ndim == 3:
        frequencies = 0 if batch[name].shape[1] < batch[name].shape[2] else 1
        masked = (
            mask_spectrogram(values.numpy(), np.random.default_rng(row["masks"]), frequencies)
            for values, row in zip(batch[name], rows, strict=True)
        )
        batch[name] = torch.from_numpy(np.stack(list(masked)))
    labels = {"labels": torch.tensor([row["labels"] for row in rows])} if "labels" in rows[0] else {}
    return batch | labels


def fingerprint(encoded: Any, processor: Any) -> str:
    """Return a hash of the recordings and of the processor's settings; files count by path, size and time of change."""
    digest = hashlib.sha256(describe_processor(processor).encode())
    for cell in encoded.split.select_columns(["audio"]).with_format("arrow")[:]["audio"].to_pylist():
        digest.update(file_identity(cell))
    return digest.hexdigest()


def describe_processor(processor: Any) -> str:
    return json.dumps(processor.to_dict(), sort_keys=True, default=str)


def content_hash(split: Any) -> str | None:
    return None  # the ids of recordings are their paths, which identify them


def views(inputs: InputConfig, *, tunes_backbone: bool) -> InputConfig | None:
    """Return the random views of a phase; ``auto`` is ``light`` if part of the backbone trains."""
    if inputs.augmentation == "auto":
        inputs = replace(inputs, augmentation="light" if tunes_backbone else "none")
    return inputs if inputs.augmentation != "none" else None


def mixer(inputs: InputConfig, classes: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    raise UserError("recordings cannot be mixed", where="--mixup, --cutmix", fix="leave the flags out.")


class Chunks(InChunks):
    """A counter of recordings that are read in several chunks."""

    def say(self, name: str, processor: Any) -> None:
        if self.long:
            say(
                f"Long recordings: {self.long:,} of {self.rows:,} {name} rows have more than {max_seconds(processor):g} "
                f"seconds and are read in {self.chunks} chunks, whose answers are averaged."
            )


def shortened() -> Chunks:
    return Chunks()
