"""``model/`` loads with plain ``transformers`` in a fresh process without this package, and gives the same answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from alone import training_alone
from scipy.special import softmax

from hf_finetune.cli.predict import main as predict
from hf_finetune.packaged import load_recipe, recipe_path

# Reads {folder: [task, inputs, options]} and answers {folder: [[label, score], ...]}; hf_finetune cannot be imported.
OUTSIDE = """
import json, sys
sys.modules["hf_finetune"] = None
from transformers import pipeline
answers = {}
for folder, (task, inputs, options) in json.load(sys.stdin).items():
    classify = pipeline(task, model=folder, **options)
    rows = [classify(item, top_k=1) for item in inputs]
    answers[folder] = [[row[0]["label"], row[0]["score"]] for row in rows]
print("ANSWER" + json.dumps(answers))
"""

RUNS = {
    "bert": ("text-classification", "bert", []),
    "bert, merged LoRA": ("text-classification", "bert", ["--strategy", "lora", "--merge_adapter"]),
    "deberta": ("text-classification", "deberta", []),
    "vit": ("image-classification", "vit", []),
    "resnet at 24 pixels": ("image-classification", "resnet", ["--image_size", "24"]),
    "timm at 48 pixels": ("image-classification", "timm-resnet", ["--image_size", "48"]),
    "timm ViT": ("image-classification", "timm-vit", ["--strategy", "head"]),
    "timm, merged LoRA": ("image-classification", "timm-efficientnet", ["--strategy", "lora", "--merge_adapter"]),
    "resnet, MLP head": ("image-classification", "resnet", ["--head_hidden_size", "16"]),
}


@pytest.fixture(scope="module")
def artifacts(python, checkpoints, text_files, image_folder, tmp_path_factory):
    """One short run of each kind, and what a process without this package says of its test rows."""
    root = tmp_path_factory.mktemp("artifacts")
    texts = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
    questions = {}
    for name, (task, checkpoint, flags) in RUNS.items():
        data = texts if task == "text-classification" else ["--dataset_name", image_folder]
        short = ["--num_train_epochs", "2", "--output_dir", str(root / name)]
        with training_alone():
            load_recipe(recipe_path(task))(["--model_name_or_path", checkpoints(checkpoint), *data, *short, *flags])
        expected = pd.read_parquet(root / name / "predictions.parquet")
        if task == "text-classification":
            inputs = list(pd.read_csv(text_files["test"])["text"])
        else:
            inputs = [str(Path(image_folder, "test", row)) for row in expected["id"]]
        options = {"trust_remote_code": True} if "MLP" in name else {}
        questions[str(root / name / "model")] = (task, inputs, options)
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(root / "modules")}
    done = python(["-c", OUTSIDE], input=json.dumps(questions), cwd=root, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return root, json.loads(done.stdout.rpartition("ANSWER")[2])


def raw_probabilities(predictions):
    """Of the answers, as ``pipeline()`` gives them: without the temperature."""
    return softmax(np.stack(predictions["logits"]), axis=1).max(axis=1).tolist()


@pytest.mark.parametrize("name", RUNS)
def test_pipeline_agrees_with_the_recorded_predictions(name, artifacts):
    root, answers = artifacts
    expected = pd.read_parquet(root / name / "predictions.parquet")
    answer = answers[str(root / name / "model")]
    assert [label for label, _ in answer] == list(expected["prediction"])
    assert [score for _, score in answer] == pytest.approx(raw_probabilities(expected), abs=2e-5)


@pytest.mark.parametrize("name", RUNS)
def test_artifacts_hold_safetensors_and_no_pickle(name, artifacts):
    files = {path.name for path in Path(artifacts[0], name, "model").iterdir()}
    assert "model.safetensors" in files
    assert not [file for file in files if file.endswith((".bin", ".pt", ".pth", ".pkl"))]


@pytest.mark.parametrize(("name", "size"), [("resnet at 24 pixels", 24), ("timm at 48 pixels", 48)])
def test_a_changed_size_travels_with_the_model(name, size, artifacts):
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(artifacts[0] / name / "model")
    image = __import__("PIL.Image", fromlist=["new"]).new("RGB", (70, 50))
    assert processor(images=image, return_tensors="pt")["pixel_values"].shape == (1, 3, size, size)


def test_an_mlp_head_never_loads_without_its_code(artifacts):
    from transformers import AutoModelForImageClassification

    with pytest.raises(ValueError, match=r"trust_remote_code|custom code"):
        AutoModelForImageClassification.from_pretrained(
            artifacts[0] / "resnet, MLP head" / "model", trust_remote_code=False
        )


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_predict_verb_gives_the_recorded_labels_for_texts(ending, artifacts, text_files, tmp_path):
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda f: pd.read_json(f, lines=True)}[ending]
    predict([str(artifacts[0] / "bert"), text_files["test"], "--output", str(tmp_path / f"out.{ending}")])
    expected = pd.read_parquet(artifacts[0] / "bert" / "predictions.parquet")
    found = read(tmp_path / f"out.{ending}")
    assert list(found.columns) == ["id", "prediction", "probability"]
    assert list(found["prediction"]) == list(expected["prediction"])
    assert list(found["probability"]) == pytest.approx(list(expected["probability"]), abs=1e-4)


@pytest.mark.parametrize("name", ["vit", "timm at 48 pixels", "resnet, MLP head"])
def test_predict_verb_gives_the_recorded_labels_for_a_folder_of_images(name, artifacts, image_folder, tmp_path):
    predict([str(artifacts[0] / name), str(Path(image_folder, "test")), "--output", str(tmp_path / "out.csv")])
    expected = pd.read_parquet(artifacts[0] / name / "predictions.parquet").set_index("id")
    found = pd.read_csv(tmp_path / "out.csv").set_index("id")
    assert len(found) == 13
    assert list(found.loc[expected.index, "prediction"]) == list(expected["prediction"])


def test_an_adapter_keeps_its_head_and_labels(checkpoints, text_files, tmp_path):
    """The classifier head is saved with the adapter, and an evaluation loss is reported while it trains."""
    texts = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
    flags = ["--strategy", "lora", "--num_train_epochs", "2", "--output_dir", str(tmp_path)]
    load_recipe(recipe_path("text-classification"))(["--model_name_or_path", checkpoints("bert"), *texts, *flags])
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "config.json"} <= files
    assert "model.safetensors" not in files
    from safetensors.torch import load_file

    names = load_file(tmp_path / "model" / "adapter_model.safetensors")
    assert any("classifier.weight" in name for name in names)
    assert not [name for name in names if "lora_" in name and "classifier" in name]
    state = json.loads(next((tmp_path / "checkpoints" / "1-lora").glob("checkpoint-*/trainer_state.json")).read_text())
    assert any("eval_loss" in entry for entry in state["log_history"])
    predict([str(tmp_path), text_files["test"], "--output", str(tmp_path / "out.csv")])
    expected = pd.read_parquet(tmp_path / "predictions.parquet")
    assert list(pd.read_csv(tmp_path / "out.csv")["probability"]) == pytest.approx(
        list(expected["probability"]), abs=1e-4
    )
