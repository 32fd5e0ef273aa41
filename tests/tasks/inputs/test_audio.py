"""Recordings as model inputs: chunks, batches, views; the same logits as the pipeline's; what ``check`` hears."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from datasets import Dataset, Features, Value
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

from hf_finetune.config.options import DataConfig, InputConfig
from hf_finetune.data import Splits
from hf_finetune.data.audio.decode import decode_fault
from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.labeller import predict_rows
from hf_finetune.models import Checkpoint
from hf_finetune.tasks.inputs import audio
from hf_finetune.tasks.inputs.audio.checks import near_recordings
from hf_finetune.tasks.inputs.audio.encoding import starts
from hf_finetune.tasks.inputs.audio.row_input import FILE

FEATURES = Features({"id": Value("string"), "audio": FILE})


def rows(folder: Path, *lengths: float, rate: int = 16_000) -> Dataset:
    random = np.random.default_rng(0)
    cells = []
    for number, seconds in enumerate(lengths):
        path = str(folder / f"{number}.wav")
        soundfile.write(path, random.normal(0, 0.1, int(seconds * rate)), rate)
        cells.append({"bytes": None, "path": path})
    return Dataset.from_dict({"id": list(map(str, range(len(lengths)))), "audio": cells}, features=FEATURES)


@pytest.fixture
def loaded(audio_checkpoints):
    def load(name, **inputs):
        folder = audio_checkpoints(name)
        torch.manual_seed(0)
        model = AutoModelForAudioClassification.from_pretrained(
            folder, num_labels=3, ignore_mismatched_sizes=True
        ).eval()
        processor = AutoFeatureExtractor.from_pretrained(folder)
        audio.prepare(Checkpoint(model, processor, [], name), InputConfig(**inputs))
        return model, processor

    return load


def logits(model, processor, split, size=4):
    encoded = audio.encode(split, processor)
    return predict_rows(model, encoded, audio.collator(processor), size, lambda share: None)


@pytest.mark.parametrize(
    "name", ["whisper", "wav2vec2", "wav2vec2-mask", "hubert-mask", "wavlm", "wav2vec2-bert", "ast"]
)
def test_batches_have_the_logits_of_the_pipeline(name, loaded, tmp_path):
    model, processor = loaded(name)
    split = rows(tmp_path, 0.3, 0.5, 0.12, 0.3, 0.45, 0.5)
    found = logits(model, processor, split)
    classify = pipeline("audio-classification", model=model, feature_extractor=processor)
    for row, own in zip(split, found, strict=True):
        samples, _ = soundfile.read(row["audio"]["path"], dtype="float32")
        answers = {a["label"]: a["score"] for a in classify(samples, function_to_apply="none", top_k=None)}
        assert own == pytest.approx([answers[f"LABEL_{i}"] for i in range(3)], abs=2e-5)


def test_what_is_filled_up_is_found_by_trying(loaded, audio_checkpoints, tmp_path):
    split = rows(tmp_path, 0.3, 0.5)
    found = {
        name: audio.encode(split, loaded(name)[1]).same_length for name in ("wav2vec2", "wav2vec2-mask", "whisper")
    }
    assert found == {"wav2vec2": True, "wav2vec2-mask": False, "whisper": False}
    # Normalised over what is filled up, whatever its mask
    claims = AutoFeatureExtractor.from_pretrained(audio_checkpoints("wav2vec2"), return_attention_mask=True)
    model, _ = loaded("wav2vec2")
    audio.prepare(Checkpoint(model, claims, [], "wav2vec2"), InputConfig())
    claims.save_pretrained(tmp_path)
    assert audio.encode(split, AutoFeatureExtractor.from_pretrained(tmp_path)).same_length


def test_long_recordings_are_the_mean_of_their_chunks(loaded, tmp_path):
    model, processor = loaded("whisper", max_seconds=0.5)
    split = rows(tmp_path, 0.4, 1.3, 0.5)
    encoded = audio.encode(split, processor)
    assert encoded["row"] == [0, 1, 1, 1, 2]
    assert max(encoded["length"]) == 8_000
    found = logits(model, processor, split)
    samples, _ = soundfile.read(split[1]["audio"]["path"], dtype="float32")
    parts = [samples[start : start + 8_000] for start in starts(len(samples), 8_000)]
    with torch.no_grad():
        expected = model(**audio.collator(processor)([{"audio": part} for part in parts])).logits.mean(dim=0)
    assert found[1] == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize("count", [5, 100, 101, 250, 1000])
def test_chunks_cover_a_recording(count):
    seen = np.zeros(count, dtype=bool)
    for start in starts(count, 100):
        assert 0 <= start <= max(0, count - 100)
        seen[start : start + 100] = True
    assert seen.all()


def test_other_rates_give_the_same_length(loaded, tmp_path):
    _, processor = loaded("wav2vec2")
    encoded = audio.encode(rows(tmp_path, 0.5, rate=44_100), processor)
    assert len(encoded[0]["audio"]) == pytest.approx(8_000, abs=2)


def test_views_depend_on_seed_epoch_and_row(loaded, tmp_path):
    _, processor = loaded("whisper")
    split = rows(tmp_path, 0.3, 0.3)
    views = audio.views(InputConfig(), tunes_backbone=True)
    assert audio.views(InputConfig(), tunes_backbone=False) is None
    torch.manual_seed(1)
    encoded = audio.encode(split, processor, views)
    first = encoded[0]["audio"]
    assert np.array_equal(first, encoded[0]["audio"])
    encoded.set_epoch(1)
    assert not np.array_equal(first, encoded[0]["audio"])
    masked = audio.encode(split, processor, dataclasses.replace(views, augmentation="randaug"))
    batch = audio.collator(processor)([masked[0], masked[1]])
    assert batch["input_features"].shape == (2, 40, 100)


@pytest.mark.parametrize(
    ("name", "inputs", "where"),
    [("whisper", {"max_seconds": 2.0}, "--max_seconds"), ("wav2vec2", {"max_seconds": 0.0001}, "--model_name_or_path wav2vec2")],
)  # fmt: skip
def test_what_the_model_cannot_read_is_refused(name, inputs, where, loaded):
    with pytest.raises(UserError) as caught:
        loaded(name, **inputs)
    assert caught.value.where == where


def test_a_text_checkpoint_is_refused(checkpoints):
    with pytest.raises(UserError, match="no feature extractor can be loaded"):
        audio.load_processor(checkpoints("bert"))


def test_check_hears_what_is_odd(tmp_path, loaded):
    split = rows(tmp_path, 0.5, 0.05, 0.5, 0.5, rate=8_000)
    soundfile.write(split[2]["audio"]["path"], np.zeros(4_000), 8_000)
    Path(split[3]["audio"]["path"]).write_bytes(b"broken")
    found = audio.inspect(Splits(split, None, None, None, "here"), DataConfig())
    assert {f.code: f.rows for f in found.section.findings} == {
        "audio-unreadable": ["3 (libsndfile cannot read it: Format not recognised)"],
        "audio-silent": ["2"],
        "audio-short": ["1"],
    }
    assert len(found.splits.train) == 3
    found.add_processor(loaded("whisper")[1])
    assert "3 of 3 recordings are resampled to 16,000 samples per second." in found.section.sentences


def test_check_says_that_it_heard_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_finetune.tasks.inputs.audio.checks.MOST_RECORDINGS", 2)
    found = audio.inspect(Splits(rows(tmp_path, 0.5, 0.5, 0.5), None, None, None, "here"), DataConfig())
    assert found.section.sentences == ["2 of 3 recordings of the train split were looked at."]


def test_near_duplicates_are_found_at_any_loudness(tmp_path):
    from hf_finetune.tasks.inputs.audio.checks import _hear

    random = np.random.default_rng(0)
    cells = []
    for number in range(6):
        time = np.arange(8_000) / 16_000
        chirp = np.sin(2 * np.pi * (200 + 150 * number) * time * (1 + time * number))
        clip = 0.5 * chirp + random.normal(0, 0.01, len(time))
        for copy, samples in enumerate((clip, 0.4 * clip + random.normal(0, 0.0005, len(time)))):
            path = str(tmp_path / f"{number}-{copy}.wav")
            soundfile.write(path, samples, 16_000)
            cells.append({"bytes": None, "path": path})
    pairs = near_recordings(np.stack([_hear(cell)[1] for cell in cells]))
    assert {tuple(pair) for pair in pairs.tolist()} == {(2 * i, 2 * i + 1) for i in range(6)}


def test_only_copies_are_near_and_not_recordings_of_the_same_word(tmp_path):
    random, rate = np.random.default_rng(0), 16_000
    pitch = np.repeat([300, 3000, 900, 5000, 600, 1800, 4000, 1200], rate // 8)
    carrier = np.sin(2 * np.pi * np.cumsum(pitch) / rate)
    one, other = (0.3 * carrier * np.convolve(random.normal(0, 1, rate), np.ones(60) / 8, "same") for _ in range(2))
    half = np.r_[np.zeros(300), 0.5 * one] + random.normal(0, 1e-4, rate + 300)
    split = rows(tmp_path, *[1] * 3, rate=rate)
    for cell, samples in zip(split["audio"], (one, other, half), strict=True):
        soundfile.write(cell["path"], samples, rate)
    found = audio.inspect(Splits(split, None, None, None, "here"), DataConfig())
    assert [0, 1] in near_recordings(found.heard["train"].spectrograms).tolist()
    keyed = pd.DataFrame({"split": "train", "row": range(3), "key": ["a", "b", "c"]})
    assert found.near(found.comparable(keyed)).tolist() == [[0, 2]]


@pytest.mark.parametrize("stream", [False, True])
def test_a_wav_that_was_cut_short_is_refused_but_not_a_stream(stream, tmp_path):
    [cell] = rows(tmp_path, 0.5)["audio"]
    whole = Path(cell["path"]).read_bytes()
    place = whole.index(b"data") + 4
    kept = whole[:place] + b"\xff" * 4 + whole[place + 4 :] if stream else whole[:-1000]
    Path(cell["path"]).write_bytes(kept)
    assert decode_fault(cell) == (None if stream else "it ends after 15000 of 16000 bytes of samples")


def test_a_recording_is_shown_with_its_clip(tmp_path):
    [row] = rows(tmp_path, 0.2)
    shown = audio.preview(row)
    assert shown["image"].startswith("data:image/png;base64,")
    assert shown["audio"].startswith("data:audio/wav;base64,")
