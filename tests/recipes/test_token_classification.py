"""Entities from end to end: words and spans, predictions, verification, resuming, processes, streams, long texts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from alone import training_alone as alone
from safetensors.torch import load_file
from warm_process import verification_in_a_fork

from hf_finetune import fine_tune
from hf_finetune.cli.main import main as hf_finetune
from hf_finetune.errors import Interrupted
from hf_finetune.evaluation.compare_runs import compare_runs

TASK = "token-classification"
REPOSITORY = Path(__file__).parents[2]
FAST = {
    "bf16": False,
    "learning_rate": 4e-3,
    "head_learning_rate": 4e-3,
    "num_train_epochs": 12,
    "seed": 1,
    "strategy": "full",
}
FAST |= {"per_device_train_batch_size": 8}


def train(checkpoint, output, **flags) -> dict:
    return fine_tune(TASK, model_name_or_path=checkpoint, output_dir=output, **FAST | flags)


@pytest.fixture(scope="module")
def run(checkpoints, entity_files, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(checkpoints("bert-without-dropout"), folder, **entity_files["words"])
    return folder


def test_a_run_learns_and_leaves_the_contracted_folder(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["f1"] > 0.9
    assert metrics["test"]["f1"] > metrics["baseline"]["f1"]
    assert metrics["test"]["rows"] == 21
    assert set(metrics["test_intervals"]) >= {"f1", "precision", "recall", "f1_macro", "accuracy"}
    assert set(metrics["test_per_class"]) == {
        f"{kind}/{name}" for kind in ("fault", "praise") for name in ("precision", "recall", "f1", "support")
    }
    settings = json.loads((run / "model" / "config.json").read_text())
    assert settings["id2label"] == {"0": "O", "1": "B-fault", "2": "I-fault", "3": "B-praise", "4": "I-praise"}
    card = (run / "README.md").read_text()
    assert 'aggregation_strategy="first"' in card
    assert "pipeline_tag: token-classification" in card
    page = (run / "report.html").read_text()
    assert "Errors by kind" in page
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert list(predictions.columns) == ["id", "label", "prediction", "logits"]


def test_the_run_is_verified(run, request):
    warm = request.getfixturevalue("python")
    with verification_in_a_fork(warm):
        assert hf_finetune(["verify", str(run)]) == 0
    about = json.loads((run / "verify.json").read_text())
    assert about["rows"] == 21
    assert about["largest_difference"] <= about["tolerance"]


def label_studio_exports(files, folder) -> dict[str, str]:
    """Return the same rows as full exports of Label Studio."""
    for name, path in files.items():
        tasks = []
        for row in map(json.loads, Path(path).read_text().splitlines()):
            values = [{"start": e["start"], "end": e["end"], "labels": [e["label"]]} for e in row["entities"]]
            result = [{"type": "labels", "from_name": "label", "to_name": "text", "value": value} for value in values]
            annotations = [{"was_cancelled": True, "result": []}, {"was_cancelled": False, "result": result}]
            tasks.append({"id": row["id"], "data": {"text": row["text"]}, "annotations": annotations})
        (folder / f"{name}.json").write_text(json.dumps(tasks))
    return {name: str(folder / f"{name}.json") for name in files}


@pytest.mark.parametrize("given", ["spans", "Label Studio"])
def test_spans_give_the_same_run_as_words(given, run, checkpoints, entity_files, tmp_path):
    files = entity_files["spans"] if given == "spans" else label_studio_exports(entity_files["spans"], tmp_path)
    with alone():
        train(checkpoints("bert-without-dropout"), tmp_path, **files)
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (run, tmp_path))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    frames = [pd.read_parquet(folder / "predictions.parquet") for folder in (run, tmp_path)]
    for name in ("id", "label", "prediction"):
        assert [str(cell) for cell in frames[0][name]] == [str(cell) for cell in frames[1][name]]


@pytest.mark.parametrize(("given", "ending"), [("words", "jsonl"), ("spans", "parquet"), ("spans", "csv")])
def test_predict_gives_what_the_run_recorded(given, ending, run, entity_files, tmp_path):
    output = tmp_path / f"out.{ending}"
    assert hf_finetune(["predict", str(run), entity_files[given]["test_file"], "--output", str(output)]) == 0
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda f: pd.read_json(f, lines=True)}[ending]
    found, expected = read(output), pd.read_parquet(run / "predictions.parquet")
    assert list(found["id"]) == list(expected["id"])
    for cell, known in zip(found["prediction"], expected["prediction"], strict=True):
        entities = json.loads(cell) if ending == "csv" else cell
        assert [dict(e) | {"score": 0} for e in entities] == [dict(e) | {"score": 0} for e in known]
        assert [e["score"] for e in entities] == pytest.approx([e["score"] for e in known], abs=1e-5)


def test_evaluate_on_the_same_file_gives_the_same_figures(run, entity_files, tmp_path):
    flags = ["--test_file", entity_files["spans"]["test_file"], "--output_dir", str(tmp_path)]
    assert hf_finetune(["evaluate", str(run), *flags]) == 0
    found, expected = (json.loads((folder / "metrics.json").read_text())["test"] for folder in (tmp_path, run))
    assert found == pytest.approx(expected, abs=1e-6)
    [comparison] = compare_runs([run, tmp_path])["comparisons"]
    assert comparison["difference"]["value"] == 0


def test_long_texts_are_read_in_windows(checkpoints, entity_files, tmp_path, capsys):
    with alone():
        metrics = train(checkpoints("bert-without-dropout"), tmp_path, max_length=10, **entity_files["words"])
    assert "and are read in" in " ".join(capsys.readouterr().out.split())
    assert metrics["test"]["f1"] > 0.85
    assert metrics["test"]["rows"] == 21
    out = tmp_path / "out.jsonl"
    assert hf_finetune(["predict", str(tmp_path), entity_files["spans"]["test_file"], "--output", str(out)]) == 0
    found = [json.loads(line)["prediction"] for line in out.read_text().splitlines()]
    for cell, known in zip(found, pd.read_parquet(tmp_path / "predictions.parquet")["prediction"], strict=True):
        assert [(e["start"], e["end"], e["label"]) for e in cell] == [(e["start"], e["end"], e["label"]) for e in known]


def test_intervals_are_over_documents(checkpoints, entity_files, tmp_path):
    """A document of four copies of a sentence tells as much as one sentence."""
    rows = pd.read_json(entity_files["spans"]["train_file"], lines=True).head(48).rename(columns={"id": "doc"})
    rows = rows.loc[rows.index.repeat(4)].reset_index(drop=True)
    rows.assign(entities=rows["entities"].map(json.dumps)).to_csv(tmp_path / "rows.csv", index=False)
    flags = {"group_column": "doc", "test_split": 0.3, "num_train_epochs": 2}
    with alone():
        train(checkpoints("bert-without-dropout"), tmp_path / "run", train_file=tmp_path / "rows.csv", **flags)
    splits = pd.read_parquet(tmp_path / "run" / "splits.parquet")
    assert splits.groupby("group")["split"].nunique().tolist() == [1] * 48
    tested = rows.loc[splits.query("split == 'test'")["id"].astype(int)]
    tested.to_json(tmp_path / "grouped.jsonl", orient="records", lines=True)
    tested.drop(columns="doc").to_json(tmp_path / "single.jsonl", orient="records", lines=True)
    for name in ("grouped", "single"):
        flags = ["--test_file", str(tmp_path / f"{name}.jsonl"), "--output_dir", str(tmp_path / name)]
        assert hf_finetune(["evaluate", str(tmp_path / "run"), *flags]) == 0
    trained, grouped, single = (
        json.loads((tmp_path / name / "metrics.json").read_text())["test_intervals"]
        for name in ("run", "grouped", "single")
    )
    for metric, (low, high) in single.items():
        assert grouped[metric] == pytest.approx(trained[metric], abs=1e-6)
        assert grouped[metric][1] - grouped[metric][0] > 1.5 * (high - low), metric


@pytest.mark.usefixtures("training_alone")
@pytest.mark.parametrize("strategy", ["freeze:1", pytest.param("head", marks=pytest.mark.slow)])
def test_cached_and_uncached_training_are_the_same(strategy, checkpoints, entity_files, tmp_path, capsys):
    for cache in ("off", "on"):
        flags = {"strategy": strategy, "activation_cache": cache, "activation_cache_dir": tmp_path / "kept"}
        train(
            checkpoints("bert-without-dropout"), tmp_path / cache, **entity_files["words"], **flags, num_train_epochs=3
        )
    assert "Activation cache: on" in capsys.readouterr().out
    one, other = (load_file(tmp_path / cache / "model" / "model.safetensors") for cache in ("on", "off"))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-5


@pytest.mark.usefixtures("training_alone")
@pytest.mark.parametrize(
    "flags",
    [
        {"strategy": "lora", "merge_adapter": True, "empty_rows_every": 2},
        pytest.param({"strategy": "lp_ft"}, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_with_the_same_weights(flags, checkpoints, entity_files, tmp_path, monkeypatch):
    from hf_finetune.training.callbacks import StopOnSignal

    fixed = {**entity_files["words"], **flags, "num_train_epochs": 3}
    train(checkpoints("bert"), tmp_path / "whole", **fixed)
    original, seen = StopOnSignal.on_step_end, []

    def stop(self, args, state, control, **kwargs):
        seen.append(state.global_step)
        self.received = 15 if len(seen) == 17 else self.received
        return original(self, args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "on_step_end", stop)
        with pytest.raises(Interrupted):
            train(checkpoints("bert"), tmp_path / "stopped", **fixed)
    train(checkpoints("bert"), tmp_path / "stopped", **fixed, resume_from_checkpoint="auto")
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def command(checkpoint, data, output, *flags):
    given = [word for name, path in data.items() for word in (f"--{name}", path)]
    fixed = [word for name, value in FAST.items() for word in (f"--{name}", str(value).lower())]
    return ["recipes/token_classification.py", "--model_name_or_path", checkpoint, *given, *fixed, "--output_dir",
            str(output), *flags]  # fmt: skip


def test_two_processes_give_the_figures_of_one(python, checkpoints, entity_files, tmp_path):
    for processes in (1, 2):
        sizes = ["--per_device_train_batch_size", str(8 // processes), "--per_device_eval_batch_size", "4"]
        argv = command(checkpoints("bert-without-dropout"), entity_files["words"], tmp_path / str(processes), *sizes)
        flags = ["--max_length", "10", "--num_train_epochs", "3", "--train_sampling_strategy", "random"]
        done = python([*argv, *flags], cwd=REPOSITORY, processes=processes, alone=True, env=os.environ)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("1", "2"))
    assert two["timing"]["processes"] == 2
    assert two["test"]["rows"] == 21
    assert two["test"]["f1"] == pytest.approx(one["test"]["f1"], abs=0.1)
    histories = [json.loads((tmp_path / n / "history.json").read_text()) for n in ("1", "2")]
    assert [len([e for e in history if "eval_f1" in e]) for history in histories] == [3, 3]


@pytest.mark.usefixtures("training_alone")
def test_a_stream_is_learned(checkpoints, entity_files, tmp_path):
    metrics = train(checkpoints("bert-without-dropout"), tmp_path, **entity_files["words"], streaming=True)
    assert metrics["test"]["f1"] > 0.85


def test_the_page_marks_entities(run):
    from hf_finetune.evaluation.prediction.labeller import load_labeller
    from hf_finetune.publish.serve import answer, render

    found = answer(load_labeller(str(run)), ("the plot was very sad and good",))
    assert found.marked == [("the plot was ", None), ("very sad", "fault"), (" and ", None), ("good", "praise")]
    assert "<mark>very sad <small>fault</small></mark>" in render(found)


def test_check_counts_entities(entity_files, checkpoints, tmp_path, capsys):
    given = [word for name, path in entity_files["spans"].items() for word in (f"--{name}", path)]
    model = ["--model_name_or_path", checkpoints("bert")]
    assert hf_finetune(["check", TASK, *model, *given, "--output_dir", str(tmp_path / "check")]) == 0
    assert "have no entity" in " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "check" / "check.json").read_text())
    assert "entities" in json.dumps(found)
