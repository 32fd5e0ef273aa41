"""The window of Whisper and AST is cut to what the recordings need, and the saved model has the cut window."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
from alone import training_alone as alone
from datasets import Dataset
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
from warm_process import verification_in_a_fork

from hf_finetune import fine_tune
from hf_finetune.cli.main import main as hf_finetune
from hf_finetune.config.options import InputConfig
from hf_finetune.models import Checkpoint
from hf_finetune.tasks.inputs import audio
from hf_finetune.tasks.inputs.audio.encoding import features, max_seconds
from hf_finetune.tasks.inputs.audio.window import window_of


def rows(folder, *lengths: float) -> Dataset:
    cells = []
    for number, seconds in enumerate(lengths):
        path = str(folder / f"{number}.wav")
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, int(seconds * 16_000)), 16_000)
        cells.append({"bytes": None, "path": path})
    return Dataset.from_dict({"audio": cells})


def load(folder, split=None, **inputs) -> Checkpoint:
    model = AutoModelForAudioClassification.from_pretrained(folder, num_labels=3, ignore_mismatched_sizes=True)
    found = Checkpoint(model.eval(), AutoFeatureExtractor.from_pretrained(folder), [], "tiny")
    audio.prepare(found, InputConfig(**inputs), split)
    return found


def embedded(checkpoint: Checkpoint, samples: np.ndarray) -> torch.Tensor:
    """Return what the first block reads, shape (1, tokens, width)."""
    found = []
    blocks = getattr(checkpoint.model, "encoder", None) or checkpoint.model.audio_spectrogram_transformer
    block = blocks.layers[0]
    handle = block.register_forward_pre_hook(
        lambda module, args, kwargs: found.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        checkpoint.model(**features(checkpoint.processor, [samples]))
    handle.remove()
    return found[0]


def test_whisper_embeds_what_is_kept_as_before(audio_checkpoints, tmp_path):
    folder = audio_checkpoints("whisper-long")
    split = rows(tmp_path, *[0.7] * 3)
    cut = load(folder, split)
    assert window_of(cut.processor) == max_seconds(cut.processor) == 1
    samples = np.random.default_rng(0).normal(0, 0.1, 11_200).astype(np.float32)
    short, whole = embedded(cut, samples), embedded(load(folder, max_seconds=4), samples)
    assert (short.shape[1], whole.shape[1]) == (50, 200)
    assert torch.allclose(short[:, :49], whole[:, :49], atol=1e-5)  # the last one is at the edge of the convolution


def test_ast_embeds_what_is_kept_as_before(audio_checkpoints, tmp_path):
    folder = audio_checkpoints("ast-long")
    cut = load(folder, rows(tmp_path, *[0.7] * 3))
    samples = np.random.default_rng(0).normal(0, 0.1, 11_200).astype(np.float32)
    short, whole = embedded(cut, samples), embedded(load(folder, max_seconds=4), samples)
    assert (short.shape[1], whole.shape[1]) == (2 + 2 * 12, 2 + 2 * 50)
    assert torch.allclose(short[:, :2], whole[:, :2], atol=1e-5)
    patches, all_patches = (each[:, 2:].unflatten(1, (2, -1)) for each in (short, whole))
    assert torch.allclose(patches, all_patches[:, :, :12], atol=1e-5)


@pytest.mark.parametrize(
    ("lengths", "inputs", "seconds"),
    [
        ([0.7] * 120 + [3.5], {}, 1),  # one of 121 is read in chunks
        ([0.7] * 20 + [1.5], {}, 2),
        ([3.5], {}, 4),
        ([0.2], {"max_seconds": 1.5}, 2),
        (None, {"max_seconds": 0.5}, 1),
        (None, {}, 4),  # unknown rows
    ],
)
def test_the_window_holds_nearly_all_training_recordings(lengths, inputs, seconds, audio_checkpoints, tmp_path):
    found = load(audio_checkpoints("whisper-long"), None if lengths is None else rows(tmp_path, *lengths), **inputs)
    assert window_of(found.processor) == seconds
    assert found.model.config.max_source_positions == 50 * seconds
    assert max_seconds(found.processor) == inputs.get("max_seconds", seconds)


def test_models_without_a_window_are_left_alone(audio_checkpoints, tmp_path):
    found = load(audio_checkpoints("wav2vec2"), rows(tmp_path, 0.7))
    assert max_seconds(found.processor) == 10
    assert not found.fresh


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("whisper-long", "full"),
        pytest.param("whisper-long", "lora", marks=pytest.mark.slow),
        pytest.param("ast-long", "full", marks=pytest.mark.slow),
        ("ast-long", "lora"),
    ],
)
def test_the_saved_model_or_adapter_has_the_cut_window(name, strategy, audio_checkpoints, recordings, tmp_path, python):
    run = tmp_path / "run"
    options = {"num_train_epochs": 1, "bf16": False, "strategy": strategy}
    with alone():
        fine_tune(
            "audio-classification",
            model_name_or_path=audio_checkpoints(name),
            dataset_name=recordings,
            output_dir=run,
            **options,
        )
    assert json.loads((run / "model" / "config.json").read_text())[
        "max_source_positions" if name == "whisper-long" else "max_length"
    ] == (50 if name == "whisper-long" else 100)
    with verification_in_a_fork(python):
        assert hf_finetune(["verify", str(run)]) == 0
