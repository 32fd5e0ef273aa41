"""Recordings from end to end: folders and tables, predictions, verification, caching, resuming, processes, streams."""

from __future__ import annotations

import json
import os
import shutil
import signal
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from alone import training_alone as alone
from hub_server import HubServer
from mutations import ask_of_each, edit, halved, weights, without
from safetensors.torch import load_file
from warm_process import verification_in_a_fork

from hf_finetune import fine_tune
from hf_finetune.cli.main import main as hf_finetune
from hf_finetune.errors import Interrupted, UserError
from hf_finetune.publish.verify.verify import judge

TASK = "audio-classification"
REPOSITORY = Path(__file__).parents[2]
FAST = {
    "bf16": False,
    "learning_rate": 5e-3,
    "head_learning_rate": 1e-2,
    "num_train_epochs": 12,
    "strategy": "full",
    "seed": 1,
}
FAST |= {"per_device_train_batch_size": 8}


def train(checkpoint, data, output, **flags) -> dict:
    return fine_tune(TASK, model_name_or_path=checkpoint, dataset_name=data, output_dir=output, **FAST | flags)


@pytest.fixture(scope="module")
def run(audio_checkpoints, recordings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(audio_checkpoints("whisper"), recordings, folder)
    return folder


def test_a_run_learns_and_leaves_the_contracted_folder(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > metrics["test"]["majority_accuracy"] + 0.3
    assert metrics["baseline"]["accuracy"] > 0.8
    settings = json.loads((run / "model" / "config.json").read_text())
    assert settings["id2label"] == {"0": "high", "1": "low", "2": "noise"}
    assert json.loads((run / "model" / "preprocessor_config.json").read_text())["max_seconds"] == 1.0
    card = (run / "README.md").read_text()
    assert "pipeline_tag: audio-classification" in card
    assert 'classify("speech.wav")' in card
    assert (
        "logistic regression on log-mel statistics"
        in json.loads((run / "evaluation.json").read_text())["headline"]["verdict"]
    )


@pytest.mark.parametrize(
    "name",
    [
        "wav2vec2",
        "wav2vec2-bert",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("wav2vec2-mask", "hubert", "wavlm-mask", "ast")),
    ],
)
def test_other_kinds_of_models_learn_and_are_verified(name, audio_checkpoints, recordings, tmp_path, python):
    strategy = {"ast": "lp_ft", "wav2vec2-bert": "freeze:1"}.get(name, "full")
    flags = {"num_train_epochs": 4, "strategy": strategy}
    with alone():
        metrics = train(audio_checkpoints(name), recordings, tmp_path, **flags)
    assert metrics["test"]["rows"] == 13
    with verification_in_a_fork(python):
        assert hf_finetune(["verify", str(tmp_path)]) == 0


def test_predict_gives_what_the_run_recorded(run, recordings, tmp_path):
    assert hf_finetune(["predict", str(run), str(Path(recordings, "test")), "--output", str(tmp_path / "out.csv")]) == 0
    found = pd.read_csv(tmp_path / "out.csv").set_index("id")
    expected = pd.read_parquet(run / "predictions.parquet").set_index("id")
    assert list(found.loc[expected.index, "prediction"]) == list(expected["prediction"])
    assert np.allclose(found.loc[expected.index, "probability"], expected["probability"], atol=1e-5)


def test_a_table_with_speakers_and_an_archive(audio_checkpoints, recordings, tmp_path):
    files = sorted(Path(recordings).rglob("*.wav"))
    rows = [(f.relative_to(recordings).as_posix(), f.parent.name, f"speaker {n % 9}") for n, f in enumerate(files)]
    table = tmp_path / "table.csv"
    pd.DataFrame(rows, columns=["file", "label", "speaker"]).to_csv(table, index=False)
    flags = FAST | {"num_train_epochs": 1, "audio_root": recordings, "group_column": "speaker", "test_split": 0.2}
    with alone():
        fine_tune(
            TASK,
            model_name_or_path=audio_checkpoints("whisper"),
            train_file=table,
            output_dir=tmp_path / "run",
            **flags,
        )
        splits = pd.read_parquet(tmp_path / "run" / "splits.parquet")
        assert splits.groupby("group")["split"].nunique().max() == 1
        assert len(splits) == 73
        with zipfile.ZipFile(tmp_path / "recordings.zip", "w") as packed:
            for file in files:
                packed.write(file, file.relative_to(recordings))
        one = train(
            audio_checkpoints("whisper"), str(tmp_path / "recordings.zip"), tmp_path / "zip", num_train_epochs=1
        )
        other = train(audio_checkpoints("whisper"), recordings, tmp_path / "folder", num_train_epochs=1)
    assert one["test"] == other["test"]


def test_long_recordings_are_read_in_chunks(audio_checkpoints, recordings, tmp_path, capsys):
    with alone():
        metrics = train(
            audio_checkpoints("whisper"), recordings, tmp_path / "run", max_seconds=0.25, num_train_epochs=2
        )
    assert "are read in" in " ".join(capsys.readouterr().out.split())
    assert metrics["test"]["rows"] == 13
    out = tmp_path / "out.csv"
    assert hf_finetune(["predict", str(tmp_path / "run"), str(Path(recordings, "test")), "--output", str(out)]) == 0
    expected = pd.read_parquet(tmp_path / "run" / "predictions.parquet").set_index("id")["prediction"]
    assert pd.read_csv(out).set_index("id")["prediction"].loc[expected.index].tolist() == expected.tolist()


@pytest.mark.usefixtures("training_alone")
@pytest.mark.parametrize(
    ("name", "strategy"), [("whisper", "head"), pytest.param("ast", "freeze:1", marks=pytest.mark.slow)]
)
def test_cached_and_uncached_training_are_the_same(name, strategy, audio_checkpoints, recordings, tmp_path, capsys):
    for cache in ("off", "on"):
        flags = {"strategy": strategy, "activation_cache": cache, "activation_cache_dir": tmp_path / "kept"}
        train(audio_checkpoints(name), recordings, tmp_path / cache, augmentation="none", num_train_epochs=3, **flags)
    assert "Activation cache: on" in capsys.readouterr().out
    one, other = (load_file(tmp_path / cache / "model" / "model.safetensors") for cache in ("on", "off"))
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < 1e-5


@pytest.mark.usefixtures("training_alone")
@pytest.mark.parametrize(
    "flags",
    [
        {"strategy": "lp_ft", "augmentation": "randaug"},
        pytest.param({"strategy": "lora", "merge_adapter": True}, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_with_the_same_weights(flags, audio_checkpoints, recordings, tmp_path, monkeypatch):
    from hf_finetune.training.callbacks import StopOnSignal

    fixed = flags | {"num_train_epochs": 2}
    train(audio_checkpoints("whisper"), recordings, tmp_path / "whole", **fixed)
    original, seen = StopOnSignal.on_step_end, []

    def stop(self, args, state, control, **kwargs):
        seen.append(state.global_step)
        self.received = signal.SIGTERM if len(seen) == 9 else self.received
        return original(self, args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "on_step_end", stop)
        with pytest.raises(Interrupted):
            train(audio_checkpoints("whisper"), recordings, tmp_path / "stopped", **fixed)
    train(audio_checkpoints("whisper"), recordings, tmp_path / "stopped", **fixed, resume_from_checkpoint="auto")
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_two_processes_give_the_figures_of_one(python, audio_checkpoints, recordings, tmp_path):
    for processes in (1, 2):
        fixed = [w for k, v in (FAST | {"num_train_epochs": 2}).items() for w in (f"--{k}", str(v).lower())]
        argv = ["recipes/audio_classification.py", "--model_name_or_path", audio_checkpoints("whisper"), *fixed]
        argv += ["--dataset_name", recordings, "--output_dir", str(tmp_path / str(processes)), "--augmentation", "none"]
        sizes = ["--per_device_train_batch_size", str(8 // processes)]
        done = python([*argv, *sizes], cwd=REPOSITORY, processes=processes, alone=True, env=os.environ)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("1", "2"))
    assert two["timing"]["processes"] == 2
    assert two["test"] == pytest.approx(one["test"], abs=2e-2)


@pytest.mark.usefixtures("training_alone")
def test_a_stream_is_learned(audio_checkpoints, recordings, tmp_path):
    metrics = train(audio_checkpoints("whisper"), recordings, tmp_path, streaming=True)
    assert metrics["test"]["accuracy"] > metrics["test"]["majority_accuracy"] + 0.3


FILE = "preprocessor_config.json"


def flipped(tensors):
    return tensors | {"projector.weight": tensors["projector.weight"].flip(0)}


MUTATIONS = {
    "rate": (edit(FILE, sampling_rate=8_000), "Whisper expects the mel input features"),
    "bands": (edit(FILE, feature_size=20), ""),
    "window": (edit(FILE, n_fft=200), "n_fft 400 → 200"),
    "hop": (edit(FILE, hop_length=320), "Whisper expects the mel input features"),
    "normalisation": (edit(FILE, do_normalize=True), "do_normalize"),
    "label order": (edit("config.json", id2label={"0": "low", "1": "high", "2": "noise"}), "label order"),
    "head missing": (weights(without("classifier")), "weights are missing"),
    "projector moved": (
        weights(flipped),
        "weights changed since the run: projector.weight",
    ),
    "half precision": (weights(halved), "weights are saved as F16"),
    "a block missing": (weights(without("layers.1.")), "weights are missing"),
    "file cut short": (lambda model: (model / "model.safetensors").write_bytes(b"x" * 100), "it cannot be loaded"),
}


@pytest.fixture(scope="module")
def answers(run, python, tmp_path_factory):
    mutations = {name: mutate for name, (mutate, _) in MUTATIONS.items()}
    return ask_of_each(run, mutations, python, tmp_path_factory.mktemp("mutations"))


def test_the_run_is_verified(answers):
    largest, tolerance = judge(*answers[""])
    assert largest <= tolerance


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_found_and_named(name, answers):
    with pytest.raises(UserError) as caught:
        judge(*answers[name])
    assert MUTATIONS[name][1] in caught.value.what


def test_an_exported_run_has_the_logits_of_the_run(run, tmp_path):
    pytest.importorskip("onnxruntime")
    from hf_finetune.publish.export.export import export_run

    found = export_run(run, tmp_path / "onnx")
    assert (found.rows, found.metric, found.changed) == (13, "accuracy", 0)
    assert found.largest_difference < 1e-3 * found.largest_logit


def test_a_pushed_model_has_no_recordings(run, python):
    with HubServer(users={"hf_secret_token": "alice"}) as hub:
        done = python(
            ["-m", "hf_finetune", "push", str(run), "--hub_model_id", "alice/sounds"], env=os.environ | hub.environ()
        )
        assert done.returncode == 0, done.stderr[-2000:]
        files = hub.repos["model", "alice/sounds"].files
        assert "model.safetensors" in files
        assert b"data:audio" not in files["report.html"]
        assert not [name for name in files if name.endswith((".wav", ".npy"))]


def test_the_page_answers_for_a_file(run, recordings):
    from hf_finetune.evaluation.prediction.labeller import load_labeller
    from hf_finetune.publish.serve import answer

    file = next(Path(recordings, "test", "noise").glob("*.wav"))
    found = answer(load_labeller(str(run)), (str(file),))
    assert found.prediction in ("high", "low", "noise")
    with pytest.raises(UserError, match="this recording cannot be read"):
        answer(load_labeller(str(run)), (__file__,))


def test_check_of_recordings(recordings, audio_checkpoints, tmp_path):
    broken = tmp_path / "recordings"
    shutil.copytree(recordings, broken)
    (broken / "train" / "low" / "broken.wav").write_bytes(b"broken")
    soundfile.write(broken / "train" / "low" / "silent.wav", np.zeros(8_000), 16_000)
    first = sorted((broken / "train" / "high").glob("*.wav"))[0]
    shutil.copy(first, broken / "test" / "high" / "copy.wav")
    flags = ["--model_name_or_path", audio_checkpoints("whisper"), "--dataset_name", str(broken)]
    assert hf_finetune(["check", TASK, *flags, "--output_dir", str(tmp_path / "check")]) == 2
    found = json.loads((tmp_path / "check" / "check.json").read_text())
    codes = json.dumps(found)
    for code in ("audio-unreadable", "audio-silent", "leak-exact"):
        assert code in codes
