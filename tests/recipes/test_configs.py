"""Every worked example of ``recipes/configs`` runs, with a tiny stand-in for its checkpoint and data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from hf_finetune.packaged import load_recipe, packaged, recipe_path
from hf_finetune.training.trainer import PhaseTrainer

CONFIGS = sorted((packaged("recipes") / "configs").glob("*.yaml"))


@pytest.fixture
def optimizers(monkeypatch):
    """The optimisers that training makes, and the names of what they train."""
    made = []
    original = PhaseTrainer.create_optimizer

    def create_optimizer(self, model=None):
        optimizer = original(self, model)
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        made.append(
            (self.phase.name, optimizer, {names[id(p)] for group in optimizer.param_groups for p in group["params"]})
        )
        return optimizer

    monkeypatch.setattr(PhaseTrainer, "create_optimizer", create_optimizer)
    return made


@pytest.fixture
def other_data(entity_files, audio_checkpoints, recordings):
    """Data of the tasks that do not read ``text_files`` or ``image_folder``."""
    return entity_files | {"audio": (audio_checkpoints("whisper"), recordings)}


def run(config, checkpoints, text_files, image_folder, output, other_data=None):
    """The example as it is, but for model, data, length and the size of the images."""
    content = yaml.safe_load(config.read_text())
    text = any(word in config.stem for word in ("bert", "minilm"))
    task = "text-classification" if text else "image-classification"
    if other_data and "train token-classification" in config.read_text():
        task, text_files = "token-classification", {name[:-5]: path for name, path in other_data["words"].items()}
    model = checkpoints(
        "bert" if text else "timm-resnet" if "timm" in str(content.get("model_name_or_path")) else "resnet"
    )
    audio = other_data and "train audio-classification" in config.read_text()
    if audio:
        task, (model, image_folder) = "audio-classification", other_data["audio"]
        for key in ("train_file", "group_column", "test_split", "validation_split"):
            content.pop(key)
    flags = ["--model_name_or_path", model, "--output_dir", str(output), "--num_train_epochs", "1"]
    if text:
        # An example for a Hub data set names it; files exclude that, so the name is taken out.
        content.pop("dataset_name", None)
        flags += [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
        flags += ["--max_length", "32"]
    else:
        flags += ["--dataset_name", image_folder, *([] if audio else ["--image_size", "32"])]
    local = output.parent / config.name
    local.write_text(yaml.safe_dump(content))
    return load_recipe(recipe_path(task))(["--config", str(local), *flags])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_examples_run(config, checkpoints, text_files, image_folder, tmp_path, optimizers, other_data):
    metrics = run(config, checkpoints, text_files, image_folder, tmp_path / "run", other_data)
    assert metrics["test"]["rows"] in (21, 13)
    floors = (metrics["test"].get("majority_accuracy"), metrics["test"].get("majority_f1"))
    assert floors in ((pytest.approx(11 / 21), None), (pytest.approx(5 / 13), None), (None, 0))
    asked = yaml.safe_load(config.read_text())
    resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    ours = {"model_name_or_path", "dataset_name", "output_dir", "num_train_epochs", "max_length", "image_size"}
    ours |= {"group_column", "test_split", "validation_split"}
    for key in asked.keys() - ours - {f"{split}_file" for split in ("train", "validation", "test")}:
        assert str(resolved[key]) == str(asked[key]) or float(resolved[key]) == float(asked[key]), key
    assert optimizers


def by_name(part):
    return next(config for config in CONFIGS if config.stem == part)


@pytest.mark.usefixtures("training_alone")
def test_linear_probe_example_trains_the_head_alone_with_sgd(
    checkpoints, text_files, image_folder, tmp_path, optimizers
):
    run(by_name("beans_resnet50_head"), checkpoints, text_files, image_folder, tmp_path / "run")
    ((phase, optimizer, trained),) = optimizers
    inner = getattr(optimizer, "optimizer", optimizer)
    assert phase == "head"
    assert isinstance(inner, torch.optim.SGD)
    assert {(group["initial_lr"], group["momentum"]) for group in inner.param_groups} == {(0.001, 0.9)}
    assert trained == {"classifier.1.weight", "classifier.1.bias"}


@pytest.mark.usefixtures("training_alone")
def test_cifar10_example_trains_all_layers_with_sgd(checkpoints, text_files, image_folder, tmp_path, optimizers):
    run(by_name("cifar10_resnet50"), checkpoints, text_files, image_folder, tmp_path / "run")
    ((phase, optimizer, trained),) = optimizers
    assert phase == "full"
    inner = getattr(optimizer, "optimizer", optimizer)
    assert {(group["initial_lr"], group["momentum"]) for group in inner.param_groups} == {(0.001, 0.9)}
    assert any("conv1" in name for name in trained)
    assert yaml.safe_load(by_name("cifar10_resnet50").read_text())["per_device_train_batch_size"] == 64


@pytest.mark.usefixtures("training_alone")
def test_mlp_example_has_a_hidden_layer_of_512_units(checkpoints, text_files, image_folder, tmp_path, optimizers):
    run(by_name("beans_resnet50_head_mlp"), checkpoints, text_files, image_folder, tmp_path / "run")
    from safetensors.torch import load_file

    shapes = {
        tuple(t.shape)
        for name, t in load_file(tmp_path / "run/model/model.safetensors").items()
        if "classifier" in name
    }
    assert (512, 16) in shapes
    assert (3, 512) in shapes
    ((_, optimizer, trained),) = optimizers
    assert isinstance(getattr(optimizer, "optimizer", optimizer), torch.optim.AdamW)
    assert all(name.startswith("classifier") for name in trained)


@pytest.mark.usefixtures("training_alone")
def test_lora_example_trains_adapters_on_attention_and_merges_them(
    checkpoints, text_files, image_folder, tmp_path, optimizers
):
    run(by_name("imdb_bert_lora"), checkpoints, text_files, image_folder, tmp_path / "run")
    ((_, _, trained),) = optimizers
    adapters = {name for name in trained if "lora_" in name}
    assert adapters
    assert all(".query." in name or ".value." in name for name in adapters)
    assert all("classifier" in name or "pooler" in name for name in trained - adapters)
    settings = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert settings["architectures"] == ["BertForSequenceClassification"]
    assert not Path(tmp_path, "run/model/adapter_config.json").exists()
