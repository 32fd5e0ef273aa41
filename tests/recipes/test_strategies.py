"""Every strategy and kind of checkpoint, end to end through the recipes, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from hf_finetune.packaged import load_recipe, recipe_path


def slow(*names: str) -> list:
    """Checkpoints whose stages, freezing and saved weights the tests of models and strategies hold, and of resuming."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


TEXT = ["bert", "modernbert", *slow("distilbert", "roberta", "deberta")]
IMAGE = ["resnet", "vit"]
IMAGE += slow("timm-efficientnet", "convnext", "swin", "dinov2", "mobilenet", "timm-resnet", "timm-vit")

# Twenty-seven layers from random weights.
DEEP = ("--num_train_epochs", "40", "--strategy", "full", "--learning_rate", "1e-2", "--augmentation", "none")


def run(task, checkpoint, data, output, *flags):
    main = load_recipe(recipe_path(task))
    fast = ["--num_train_epochs", "1", "--per_device_train_batch_size", "8"]
    return main(["--model_name_or_path", checkpoint, *data, "--output_dir", str(output), *fast, *flags])


@pytest.fixture
def text_flags(text_files):
    return [word for split, path in text_files.items() for word in (f"--{split}_file", path)]


@pytest.fixture
def image_flags(image_folder):
    return ["--dataset_name", image_folder]


@pytest.mark.parametrize("name", TEXT)
def test_text_checkpoints_learn_and_leave_the_contracted_run_folder(name, checkpoints, text_flags, tmp_path):
    flags = ("--num_train_epochs", "8", "--learning_rate", "5e-3", "--head_learning_rate", "5e-3")
    metrics = run("text-classification", checkpoints(name), text_flags, tmp_path, *flags)
    assert metrics["test"]["majority_accuracy"] == pytest.approx(11 / 21)
    assert metrics["test"]["accuracy"] > 0.7
    assert metrics["test"]["rows"] == 21
    assert json.loads((tmp_path / "metrics.json").read_text())["test"] == metrics["test"]
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    assert settings["id2label"] == {"0": "negative", "1": "positive"}
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    assert list(predictions["id"]) == [str(i) for i in range(21)]
    assert (predictions["label"] == predictions["prediction"]).mean() == pytest.approx(metrics["test"]["accuracy"])


@pytest.mark.usefixtures("training_alone")
@pytest.mark.parametrize("name", IMAGE)
def test_image_checkpoints_learn_and_keep_natural_class_order(name, checkpoints, image_flags, tmp_path):
    flags = DEEP if name == "mobilenet" else ("--num_train_epochs", "10")
    metrics = run("image-classification", checkpoints(name), image_flags, tmp_path, *flags)
    assert metrics["test"]["accuracy"] > metrics["test"]["majority_accuracy"] + 0.2
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    assert list(dict.fromkeys(predictions["label"])) == ["class 1", "class 2", "class 10"]
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    names = settings.get("label_names") or list(settings["id2label"].values())
    assert names == ["class 1", "class 2", "class 10"]


@pytest.mark.usefixtures("training_alone")
@pytest.mark.parametrize(
    ("task", "name", "strategy"),
    [
        *(("text-classification", "bert", strategy) for strategy in ("head", "freeze:1", "lp_ft", "gradual", "lora")),
        *(("image-classification", "timm-resnet", strategy) for strategy in ("freeze:1", "lora")),
        pytest.param("image-classification", "timm-resnet", "gradual", marks=pytest.mark.slow),
        pytest.param("text-classification", "bert", "freeze:embeddings", marks=pytest.mark.slow),
        pytest.param("image-classification", "timm-resnet", "freeze:layer2", marks=pytest.mark.slow),
        pytest.param("image-classification", "timm-resnet", "head", marks=pytest.mark.slow),
        pytest.param("image-classification", "timm-resnet", "lp_ft", marks=pytest.mark.slow),
    ],
)
def test_strategies_train_what_they_say(strategy, task, name, checkpoints, text_flags, image_flags, tmp_path):
    from hf_finetune.config.options import ModelConfig
    from hf_finetune.models import load_artifact
    from hf_finetune.tasks import get_task

    data = text_flags if task == "text-classification" else image_flags
    run(task, checkpoints(name), data, tmp_path, "--strategy", strategy, "--merge_adapter")
    trained = load_artifact(tmp_path / "model", get_task(task).auto_class).state_dict()
    original = load_artifact(checkpoints(name), get_task(task).auto_class).state_dict() if name == "bert" else None
    if original is None:
        from transformers import AutoModelForImageClassification

        settings = __import__("hf_finetune.models", fromlist=["load_settings"]).load_settings(
            ModelConfig(checkpoints(name))
        )
        original = AutoModelForImageClassification.from_pretrained(checkpoints(name), config=settings).state_dict()
    changed = {
        key
        for key, value in trained.items()
        if value.shape != original[key].shape or not torch.equal(value, original[key])
    }
    first = "bert.embeddings" if name == "bert" else "timm_model.conv1"
    last_block = "bert.encoder.layer.1" if name == "bert" else "timm_model.layer4"
    head = "classifier" if name == "bert" else "timm_model.fc"
    assert any(key.startswith(head) for key in changed)
    assert any(key.startswith(last_block) for key in changed) == (strategy != "head")
    assert any(key.startswith(first) for key in changed) == (
        strategy in ("lp_ft", "gradual") or (strategy == "lora" and name != "bert")
    )
    if strategy in ("head", "lora"):  # no statistics of a frozen stage moved
        assert not {key for key in changed if "running" in key or "num_batches" in key}


@pytest.mark.usefixtures("training_alone")
def test_resolved_config_repeats_the_run(checkpoints, text_flags, tmp_path):
    first = run("text-classification", checkpoints("bert"), text_flags, tmp_path / "a")
    resolved = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert resolved["learning_rate"] > 0
    again = load_recipe(recipe_path("text-classification"))(
        ["--config", str(tmp_path / "a" / "config.yaml"), "--output_dir", str(tmp_path / "b")]
    )
    assert again["test"] == first["test"]
    other = load_recipe(recipe_path("text-classification"))(
        ["--config", str(tmp_path / "a" / "config.yaml"), "--output_dir", str(tmp_path / "c"), "--seed", "7"]
    )
    assert other["test"]["loss"] != first["test"]["loss"]


def test_rows_in_memory(checkpoints, tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    from hf_finetune import fine_tune

    features = Features({"text": Value("string"), "label": ClassLabel(names=["zebra", "ant"])})
    rows = Dataset.from_dict({"text": ["good film", "bad film"] * 20, "label": [0, 1] * 20}, features=features)
    flags = {"model_name_or_path": checkpoints("bert"), "output_dir": str(tmp_path), "num_train_epochs": 1}
    metrics = fine_tune("text-classification", DatasetDict({"train": rows, "test": rows}), **flags)
    assert metrics["test"]["rows"] == 40
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    assert settings["id2label"] == {"0": "zebra", "1": "ant"}
    assert Path(tmp_path, "README.md").read_text().startswith("---\n")
