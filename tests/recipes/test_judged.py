"""A run is judged with intervals, a baseline and calibration; judged again; compared; and repeated with other seeds."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from hf_finetune.cli.compare import main as compare
from hf_finetune.cli.evaluate import main as evaluate
from hf_finetune.cli.train import main as train
from hf_finetune.errors import UserError
from hf_finetune.packaged import load_recipe, recipe_path

TASKS = {"text": "text-classification", "image": "image-classification"}


def flags_of(kind, checkpoints, text_files, image_folder):
    model = {"text": "bert", "image": "resnet"}[kind]
    data = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
    data = data if kind == "text" else ["--dataset_name", image_folder]
    return ["--model_name_or_path", checkpoints(model), *data, "--num_train_epochs", "2", "--learning_rate", "3e-3"]


@pytest.fixture(scope="module")
def runs(checkpoints, text_files, image_folder, tmp_path_factory):
    """A text run, another of one epoch, and an image run."""
    root = tmp_path_factory.mktemp("runs")
    for name, kind, more in (
        ("text", "text", []),
        ("short", "text", ["--num_train_epochs", "1", "--learning_rate", "1e-5"]),
        ("image", "image", ["--strategy", "lp_ft"]),
    ):
        flags = flags_of(kind, checkpoints, text_files, image_folder)
        load_recipe(recipe_path(TASKS[kind]))([*flags, *more, "--output_dir", str(root / name)])
    return root


def read(folder, name="metrics.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["text", "image"])
def test_figures_come_with_intervals_baseline_and_calibration(kind, runs):
    metrics, about = read(runs / kind), read(runs / kind, "evaluation.json")
    test = metrics["test"]
    for name, (low, high) in metrics["test_intervals"].items():
        assert low <= test[name] <= high
    assert {"accuracy", "f1_macro", "loss"} <= metrics["test_intervals"].keys()
    assert 0 < metrics["baseline"]["accuracy"] <= 1
    assert about["headline"]["baseline"]["name"] == (
        "tf-idf and logistic regression" if kind == "text" else "logistic regression on the untouched backbone"
    )
    assert metrics["calibration"]["temperature"] == read(runs / kind, "model/config.json")["calibration_temperature"]
    rows = pd.read_parquet(runs / kind / "predictions.parquet")
    logits = np.stack(rows["logits"])
    scaled = logits / metrics["calibration"]["temperature"]
    probabilities = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert rows["probability"].to_numpy() == pytest.approx(probabilities.max(axis=1), abs=1e-6)
    phases = [each["phase"] for each in about["strategy"]]
    assert phases == (["full"] if kind == "text" else ["head", "full"])
    history = read(runs / kind, "history.json")
    assert list(dict.fromkeys(entry["phase"] for entry in history)) == phases
    assert any("eval_accuracy" in entry for entry in history)
    assert metrics["timing"]["peak_memory_bytes"] > 1e8


def test_judged_again_on_the_same_rows_it_gives_the_same(runs):
    evaluate([str(runs / "text")])
    again = read(runs / "text" / "evaluations" / "again")
    first = read(runs / "text")
    for name in ("test", "test_intervals", "test_per_class"):
        assert again[name] == pytest.approx(first[name], abs=1e-6) if name == "test" else True
    assert again["test_intervals"]["accuracy"] == pytest.approx(first["test_intervals"]["accuracy"])
    one, other = (pd.read_parquet(f / "predictions.parquet") for f in (runs / "text", runs / "text/evaluations/again"))
    assert one["id"].tolist() == other["id"].tolist()
    assert np.stack(one["logits"]) == pytest.approx(np.stack(other["logits"]), abs=1e-5)


def test_judged_on_other_rows(runs, text_files, tmp_path, capsys):
    with Path(text_files["test"]).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for row in rows if row["label"] == "negative"][:6]
    file = tmp_path / "one_class.csv"
    pd.DataFrame(chosen).assign(source=["x", "y"] * 3).to_csv(file, index=False)
    evaluate(
        [str(runs / "text"), "--test_file", str(file), "--slice_column", "source", "--output_dir", str(tmp_path / "o")]
    )
    metrics = read(tmp_path / "o")
    assert metrics["test"]["rows"] == 6
    assert metrics["test_by_source"]["x/rows"] == 3
    assert (tmp_path / "o" / "report.html").exists()
    assert set(pd.read_parquet(tmp_path / "o" / "predictions.parquet")["label"]) == {"negative"}


def test_labels_that_the_model_does_not_know_are_refused(runs, tmp_path):
    file = tmp_path / "strange.csv"
    file.write_text("text,label\ngood film,positive\nbad film,neutral\n")
    with pytest.raises(UserError) as caught:
        evaluate([str(runs / "text"), "--test_file", str(file)])
    assert "neutral" in caught.value.what
    assert not (runs / "text" / "evaluations" / "strange").exists()


def test_images_of_a_folder_by_class(runs, image_folder, tmp_path):
    evaluate([str(runs / "image"), "--test_dir", f"{image_folder}/test", "--output_dir", str(tmp_path)])
    first, again = read(runs / "image")["test"], read(tmp_path)["test"]
    assert again["accuracy"] == first["accuracy"]
    assert again["loss"] == pytest.approx(first["loss"], abs=1e-5)


def test_two_runs_are_compared_on_the_same_rows(runs, tmp_path, capsys):
    compare([str(runs / "short"), str(runs / "text"), "--output", str(tmp_path / "c.json")])
    found = read(tmp_path, "c.json")
    values = [each["value"] for each in found["runs"]]
    assert found["rows"] == 21
    (pair,) = found["comparisons"]
    assert pair["difference"]["value"] == pytest.approx(values[1] - values[0])
    right = {
        name: (rows := pd.read_parquet(runs / name / "predictions.parquet"))["label"].eq(rows["prediction"])
        for name in ("short", "text")
    }
    assert pair["mcnemar"]["only_a"] == int((right["text"] & ~right["short"]).sum())
    assert pair["mcnemar"]["only_b"] == int((right["short"] & ~right["text"]).sum())
    assert pair["verdict"] in capsys.readouterr().out.replace("\n", " ")


def test_what_evaluate_wrote_can_be_compared(runs, text_files, tmp_path, capsys):
    for name in ("short", "text"):
        evaluate([str(runs / name), "--test_file", text_files["validation"], "--output_dir", str(tmp_path / name)])
    compare([str(tmp_path / "short"), str(tmp_path / "text"), "--metric", "loss"])
    values = [read(tmp_path / name)["test"]["loss"] for name in ("short", "text")]
    said = capsys.readouterr().out
    assert all(f"{value:.4f}" in said for value in values)
    with pytest.raises(UserError) as caught:
        compare([str(tmp_path / "text"), str(runs / "text")])
    assert caught.value.what.startswith("the runs were evaluated on different rows (16 and 21 rows")


def test_runs_of_other_rows_are_not_compared(runs, tmp_path):
    with pytest.raises(UserError) as caught:
        compare([str(runs / "text"), str(runs / "image")])
    assert caught.value.what == "the runs have different labels"
    with pytest.raises(UserError) as caught:
        compare([str(runs / "text"), str(tmp_path)])
    assert "this is not a finished run" in caught.value.what
    with pytest.raises(UserError):
        compare([str(runs / "text")])
    with pytest.raises(UserError) as caught:
        compare([str(runs / "text"), str(runs / "short"), "--metric", "nonsense"])
    assert caught.value.where == "--metric"


def test_several_seeds(checkpoints, text_files, image_folder, tmp_path, capfd, python, monkeypatch):
    monkeypatch.setattr("hf_finetune.cli.train.subprocess.run", lambda argv, env, check: python(argv[1:], env=env))
    flags = [*flags_of("text", checkpoints, text_files, image_folder), "--num_train_epochs", "1"]
    train(["text-classification", *flags, "--seeds", "1,2", "--output_dir", str(tmp_path)])
    found = read(tmp_path, "seeds.json")
    values = [read(tmp_path / f"seed-{seed}")["test"]["loss"] for seed in (1, 2)]
    assert values[0] != values[1]
    assert found["seeds"] == [1, 2]
    assert found["test"]["loss"]["values"] == values
    assert found["test"]["loss"]["mean"] == pytest.approx(np.mean(values))
    assert found["test"]["loss"]["std"] == pytest.approx(np.std(values, ddof=1))
    before = (tmp_path / "seed-1" / "metrics.json").stat().st_mtime_ns
    train(
        [
            "text-classification",
            *flags,
            "--seeds",
            "1,2",
            "--output_dir",
            str(tmp_path),
            "--resume_from_checkpoint",
            "auto",
        ]
    )
    assert (tmp_path / "seed-1" / "metrics.json").stat().st_mtime_ns == before


def test_the_token_reaches_every_seed_and_no_command_line(checkpoints, text_files, image_folder, tmp_path, monkeypatch):
    started = []

    def run(argv, env, check):
        started.append((argv, env))
        folder = Path(argv[-1])
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text('{"test": {"loss": 1.0}}')
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("hf_finetune.cli.train.subprocess.run", run)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    flags = [*flags_of("text", checkpoints, text_files, image_folder), "--hub_token", "hf_secret", "--seeds", "1,2"]
    train(["text-classification", *flags, "--output_dir", str(tmp_path)])
    assert [Path(argv[-1]).name for argv, _ in started] == ["seed-1", "seed-2"]
    assert all(env["HF_TOKEN"] == "hf_secret" and "hf_secret" not in argv for argv, env in started)
    assert "HF_TOKEN" not in os.environ


@pytest.mark.parametrize("seeds", ["1,1", "one", "", "1,,2"])
def test_what_is_no_list_of_seeds(seeds, checkpoints, text_files, image_folder):
    with pytest.raises(UserError) as caught:
        train(["text-classification", *flags_of("text", checkpoints, text_files, image_folder), "--seeds", seeds])
    assert caught.value.where == "--seeds"


def test_a_metric_of_ones_own_has_an_interval_too(checkpoints, text_files, image_folder, tmp_path):
    module = tmp_path / "share_right" / "share_right.py"
    module.parent.mkdir()
    module.write_text(
        "import datasets\nimport evaluate\n\n\nclass ShareRight(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        kinds = {name: datasets.Value('int64') for name in ('predictions', 'references')}\n"
        "        about = {'description': 'x', 'citation': 'x', 'inputs_description': 'x'}\n"
        "        return evaluate.MetricInfo(**about, features=datasets.Features(kinds))\n\n"
        "    def _compute(self, predictions, references):\n"
        "        return {'share': sum(p == r for p, r in zip(predictions, references)) / len(references)}\n"
    )
    flags = [*flags_of("text", checkpoints, text_files, image_folder), "--metric", str(module.parent)]
    load_recipe(recipe_path("text-classification"))([*flags, "--output_dir", str(tmp_path / "run")])
    metrics = read(tmp_path / "run")
    assert metrics["test"]["share_right"] == metrics["test"]["accuracy"]
    low, high = metrics["test_intervals"]["share_right"]
    assert low <= metrics["test"]["share_right"] <= high
    assert low < high
