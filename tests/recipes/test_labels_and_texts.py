"""Pairs, several columns, long texts, several classes and numbers: from the file to what ``predict`` writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import FILLER, NEGATIVE, POSITIVE
from datasets import ClassLabel, Dataset, Features, Image, List
from transformers import pipeline

from hf_finetune import fine_tune
from hf_finetune.cli.predict import main as predict
from hf_finetune.errors import UserError


def write(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def sentence(random, *telling, words=3):
    found = list(random.choice(FILLER, words))
    for word in telling:
        found.insert(int(random.integers(0, len(found) + 1)), word)
    return " ".join(found)


def agrees(run, source, tmp_path, *flags, model="."):
    """Predict from the run folder, or from the model in it, and compare with what the run recorded."""
    predict([str(run / model), source, "--output", str(tmp_path / "out.parquet"), *flags])
    found, expected = pd.read_parquet(tmp_path / "out.parquet"), pd.read_parquet(run / "predictions.parquet")
    assert list(found["id"]) == list(expected["id"])
    for name in set(expected.columns) - {"id", "label", "logits"}:
        for one, other in zip(found[name], expected[name], strict=True):
            if isinstance(one, str):
                assert one == other
            elif len(np.shape(one)) and len(one) and isinstance(one[0], str):
                assert list(one) == list(other)
            else:
                # A temperature below 1 makes what float32 rounds larger.
                assert np.asarray(one, dtype=float) == pytest.approx(np.asarray(other, dtype=float), abs=1e-4)
    return found


FAST = {"bf16": False, "learning_rate": 2e-3, "head_learning_rate": 2e-3, "strategy": "full", "layer_decay": 1.0}
# The last epoch is the model: nothing is judged or saved between the epochs.
ONE_LOOK = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}


@pytest.fixture(scope="module")
def pair_files(tmp_path_factory):
    """Two texts of one word each; they agree where both are good or both bad, which neither tells alone."""
    folder, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    files = {}
    for split, count in {"train": 200, "validation": 40, "test": 40}.items():
        rows = []
        for index in range(count):
            one, other = index % 2, index // 2 % 2
            texts = [str(random.choice(POSITIVE[:2] if mood else NEGATIVE[:2])) for mood in (one, other)]
            rows.append([f"row {index}", *texts, "same" if one == other else "different"])
        files[f"{split}_file"] = write(folder / f"{split}.csv", ["id", "premise", "hypothesis", "label"], rows)
    return files


def test_a_rule_over_pairs_is_learned_and_predicted_from_the_run_folder(checkpoints, pair_files, tmp_path, capsys):
    run = tmp_path / "run"
    model = checkpoints("bert-without-dropout")
    metrics = fine_tune(
        "text-classification",
        model_name_or_path=model,
        **pair_files,
        output_dir=run,
        num_train_epochs=20,
        per_device_train_batch_size=8,
        **FAST,
        **ONE_LOOK,
    )
    assert metrics["test"]["accuracy"] > 0.95
    assert metrics["test"]["majority_accuracy"] == 0.5
    assert "pairs of texts: 'premise' and 'hypothesis'" in capsys.readouterr().out
    settings = json.loads((run / "model" / "config.json").read_text())
    assert settings["input_columns"] == {"text": ["premise"], "text_pair": ["hypothesis"]}
    agrees(run, pair_files["test_file"], tmp_path)
    agrees(run, pair_files["test_file"], tmp_path, model="model")
    answer = pipeline("text-classification", model=str(run / "model"))({"text": "good", "text_pair": "bad"})
    assert answer["label"] == "different"
    assert '{"text": "Some text.", "text_pair": "Another."}' in (run / "README.md").read_text()
    renamed = tmp_path / "renamed.csv"
    pd.read_csv(pair_files["test_file"]).rename(columns={"premise": "p", "label": "l"}).to_csv(renamed, index=False)
    with pytest.raises(UserError) as caught:
        predict([str(run), str(renamed), "--output", str(tmp_path / "x.csv")])
    assert caught.value.what.startswith("there is no column 'premise', which the model was trained on")
    agrees(run, str(renamed), tmp_path, "--text_column", "p")


@pytest.mark.usefixtures("training_alone")
def test_several_columns_are_read_alike_in_training_and_prediction(checkpoints, tmp_path):
    """The telling word stands in the title or in the body; some titles are missing."""
    random = np.random.default_rng(0)
    rows = []
    for index in range(160):
        word = str(random.choice((POSITIVE, NEGATIVE)[index % 2]))
        cells = [sentence(random, word), sentence(random)] if index % 4 < 2 else ["", sentence(random, word)]
        rows.append([*cells, ("up", "down")[index % 2]])
    data = write(tmp_path / "rows.csv", ["body", "title", "label"], [[b, a, c] for a, b, c in rows])
    run = tmp_path / "run"
    metrics = fine_tune(
        "text-classification",
        model_name_or_path=checkpoints("bert-without-dropout"),
        train_file=data,
        test_file=data,
        text_columns=["title", "body"],
        output_dir=run,
        num_train_epochs=6,
        per_device_train_batch_size=16,
        **FAST,
    )
    assert metrics["test"]["accuracy"] > 0.9
    # config.json is sorted by name; the order of the columns is not.
    assert json.loads((run / "model" / "config.json").read_text())["input_columns"] == {"text": ["title", "body"]}
    agrees(run, data, tmp_path)


@pytest.fixture(scope="module")
def long_files(tmp_path_factory):
    """Eighty words, of which one near the end tells the label: truncation at 16 tokens never sees it."""
    folder, random = tmp_path_factory.mktemp("long"), np.random.default_rng(0)
    files = {}
    for split, count in {"train": 200, "validation": 21, "test": 31}.items():
        rows = []
        for index in range(count):
            words = list(random.choice(FILLER, int(random.integers(30, 60))))
            words[-int(random.integers(2, 10))] = str(random.choice((POSITIVE, NEGATIVE)[index % 2][:2]))
            rows.append([" ".join(words), ("up", "down")[index % 2]])
        files[f"{split}_file"] = write(folder / f"{split}.csv", ["review", "label"], rows)
    return files


@pytest.mark.usefixtures("training_alone")
def test_the_end_of_long_texts_is_read(checkpoints, long_files, tmp_path, capsys):
    def train(how):
        return fine_tune(
            "text-classification",
            model_name_or_path=checkpoints("bert-without-dropout"),
            **long_files,
            output_dir=tmp_path / how,
            max_length=24,
            long_text=how,
            num_train_epochs=8,
            per_device_train_batch_size=16,
            **FAST,
            **ONE_LOOK,
        )

    truncated, both_ends, chunked = train("truncate"), train("head_tail"), train("chunk")
    assert truncated["test"]["accuracy"] < 0.75
    assert both_ends["test"]["accuracy"] > 0.95
    assert chunked["test"]["accuracy"] > 0.95
    assert chunked["test"]["rows"] == 31
    said = " ".join(capsys.readouterr().out.split())
    assert "of 200 training rows have more than 24 tokens and are read in" in said
    for how in ("head_tail", "chunk"):
        agrees(tmp_path / how, long_files["test_file"], tmp_path)


@pytest.mark.usefixtures("training_alone")
def test_between_epochs_chunks_are_judged_as_the_saved_model_is(checkpoints, long_files, tmp_path):
    """The best epoch's figures are those that the final evaluation finds on the same rows."""
    metrics = fine_tune(
        "text-classification",
        model_name_or_path=checkpoints("bert-without-dropout"),
        **long_files,
        output_dir=tmp_path,
        max_length=24,
        long_text="chunk",
        metric="loss",
        num_train_epochs=2,
        **FAST,
    )
    states = tmp_path.glob("checkpoints/1-full/checkpoint-*/trainer_state.json")
    logs = [json.loads(path.read_text()) for path in states]
    best = min(e["eval_loss"] for state in logs for e in state["log_history"] if "eval_loss" in e)
    entry = next(e for state in logs for e in state["log_history"] if e.get("eval_loss") == best)
    for name in ("loss", "accuracy", "f1_macro", "auroc"):
        assert entry[f"eval_{name}"] == pytest.approx(metrics["validation"][name], abs=1e-5), name


@pytest.mark.usefixtures("training_alone")
def test_chunks_are_kept_by_the_activation_cache(checkpoints, long_files, tmp_path, capsys):
    def train(name, cache):
        metrics = fine_tune(
            "text-classification",
            model_name_or_path=checkpoints("bert-without-dropout"),
            **long_files,
            output_dir=tmp_path / name,
            max_length=24,
            long_text="chunk",
            strategy="head",
            num_train_epochs=3,
            learning_rate=1e-2,
            bf16=False,
            activation_cache=cache,
            activation_cache_dir=tmp_path / "kept",
        )
        return metrics["test"]

    with_cache = train("on", "on")
    assert "Activation cache: on in phase head" in capsys.readouterr().out
    assert with_cache == pytest.approx(train("off", "off"), rel=1e-4)


@pytest.mark.usefixtures("training_alone")
def test_several_classes_a_row(checkpoints, tmp_path):
    """Three classes, each told by a word of its own; a row has none to three of them."""
    random = np.random.default_rng(0)
    words = {"calm": "happy", "angry": "bad", "=cmd": "bright"}

    def rows(count):
        for _ in range(count):
            own = [name for name in words if random.random() < 0.4]
            yield [sentence(random, *(words[name] for name in own)), "|".join(own)]

    files = {
        f"{split}_file": write(tmp_path / f"{split}.csv", ["text", "labels"], rows(count))
        for split, count in {"train": 300, "validation": 60, "test": 60}.items()
    }
    run = tmp_path / "run"
    metrics = fine_tune(
        "text-classification",
        model_name_or_path=checkpoints("bert-without-dropout"),
        **files,
        label_delimiter="|",
        output_dir=run,
        num_train_epochs=10,
        seed=2,
        per_device_train_batch_size=16,
        **FAST,
        **ONE_LOOK,
    )
    assert metrics["test"]["f1_micro"] > max(0.9, metrics["test"]["majority_f1_micro"])
    settings = json.loads((run / "model" / "config.json").read_text())
    assert settings["problem_type"] == "multi_label_classification"
    assert len(settings["thresholds"]) == 3
    found = agrees(run, files["test_file"], tmp_path)
    truth = [set(filter(None, cell.split("|"))) for cell in pd.read_csv(files["test_file"]).fillna("")["labels"]]
    right = np.mean([set(cell) == names for cell, names in zip(found["prediction"], truth, strict=True)])
    assert right == pytest.approx(metrics["test"]["accuracy"])
    predict([str(run), files["test_file"], "--output", str(tmp_path / "out.csv")])
    cells = pd.read_csv(tmp_path / "out.csv")["prediction"]
    assert [json.loads(cell) for cell in cells] == [list(cell) for cell in found["prediction"]]


def test_numbers_come_back_in_their_own_units(checkpoints, tmp_path):
    """The number of good words, as 1000 for each above 5000."""
    random = np.random.default_rng(0)

    def rows(count):
        for _ in range(count):
            good = int(random.integers(0, 5))
            telling = [*random.choice(POSITIVE, good), *random.choice(NEGATIVE, 4 - good)]
            yield [sentence(random, *map(str, telling)), f"{5000 + 1000 * good}.5"]

    files = {
        f"{split}_file": write(tmp_path / f"{split}.csv", ["text", "label"], rows(count))
        for split, count in {"train": 400, "validation": 40, "test": 40}.items()
    }
    run = tmp_path / "run"
    metrics = fine_tune(
        "text-classification",
        model_name_or_path=checkpoints("bert-without-dropout"),
        **files,
        output_dir=run,
        num_train_epochs=10,
        per_device_train_batch_size=16,
        **FAST,
        **ONE_LOOK,
    )
    assert metrics["test"]["spearman"] > 0.9
    assert metrics["test"]["rmse"] < metrics["test"]["mean_rmse"] / 2
    found = agrees(run, files["test_file"], tmp_path)
    assert list(found.columns) == ["id", "prediction"]
    assert 4500 < found["prediction"].min() < found["prediction"].max() < 10500
    text = pd.read_csv(files["test_file"])["text"][0]
    scores = pipeline("text-classification", model=str(run / "model"))(text, function_to_apply="none")
    assert scores[0]["score"] == pytest.approx(found["prediction"][0], rel=1e-4)
    assert 'function_to_apply="none"' in (run / "README.md").read_text()
    errors = found["prediction"] - pd.read_csv(files["test_file"])["label"]
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(metrics["test"]["rmse"], rel=1e-3)


@pytest.mark.usefixtures("training_alone")
def test_an_adapter_remembers_its_columns(checkpoints, pair_files, tmp_path):
    fine_tune(
        "text-classification",
        model_name_or_path=checkpoints("bert-without-dropout"),
        **pair_files,
        output_dir=tmp_path / "run",
        strategy="lora",
        num_train_epochs=1,
        bf16=False,
    )
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").exists()
    agrees(tmp_path / "run", pair_files["test_file"], tmp_path)


@pytest.mark.usefixtures("training_alone")
def test_a_model_that_goes_on_from_another_remembers_its_own_columns(checkpoints, pair_files, text_files, tmp_path):
    common = {"num_train_epochs": 1, "bf16": False, "long_text": "truncate"}
    first = {"model_name_or_path": checkpoints("bert-without-dropout"), "long_text": "chunk"}
    fine_tune("text-classification", **pair_files, output_dir=tmp_path / "one", **(common | first))
    path = tmp_path / "one" / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"thresholds": [0.1, 0.2]}))
    assert "long_text" in (path.parent / "tokenizer_config.json").read_text()
    data = {f"{split}_file": file for split, file in text_files.items()}
    fine_tune("text-classification", **data, model_name_or_path=path.parent, output_dir=tmp_path / "two", **common)
    settings = json.loads((tmp_path / "two" / "model" / "config.json").read_text())
    assert settings["input_columns"] == {"text": ["text"]}
    assert "thresholds" not in settings
    assert "long_text" not in (tmp_path / "two" / "model" / "tokenizer_config.json").read_text()


@pytest.mark.usefixtures("training_alone")
def test_images_of_several_classes_from_rows_in_memory(checkpoints, tmp_path):
    """Red and blue patches, alone, together or not at all."""
    from PIL import Image as Images

    random = np.random.default_rng(0)
    images, labels = [], []
    for index in range(160):
        own = [channel for channel in range(2) if index >> channel & 1]
        pixels = random.integers(0, 60, (32, 32, 3)).astype(np.uint8)
        for channel in own:
            pixels[16 * channel : 16 * channel + 16, :, 2 * channel] = 250
        images.append(Images.fromarray(pixels))
        labels.append(own)
    features = Features({"image": Image(), "labels": List(ClassLabel(names=["red", "blue"]))})
    dataset = Dataset.from_dict({"image": images, "labels": labels}, features=features)
    metrics = fine_tune(
        "image-classification",
        dataset,
        model_name_or_path=checkpoints("resnet"),
        output_dir=tmp_path / "run",
        num_train_epochs=8,
        augmentation="none",
        validation_split=0.25,
        **FAST,
    )
    assert metrics["validation"]["f1_micro"] > 0.9
    assert len(json.loads((tmp_path / "run" / "model" / "config.json").read_text())["thresholds"]) == 2
    Path(tmp_path / "new").mkdir()
    for index in range(4):
        images[index].save(tmp_path / "new" / f"{index}.png")
    predict([str(tmp_path / "run"), str(tmp_path / "new"), "--output", str(tmp_path / "out.jsonl")])
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [answer["prediction"] for answer in answers] == [[], ["red"], ["blue"], ["red", "blue"]]
