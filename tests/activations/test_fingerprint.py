"""The name of a store changes with everything that its content depends on, and with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import MAKERS
from torch import nn

from hf_finetune.activations.cache import Workload, _stores, probes
from hf_finetune.activations.cut import find_cut, frozen_depth
from hf_finetune.activations.fingerprint import hash_prefix
from hf_finetune.config.options import ModelConfig
from hf_finetune.data.readers.cell import IMAGE
from hf_finetune.data.readers.folder import open_classes
from hf_finetune.strategies import apply_phase, make_phases
from hf_finetune.strategies.phases import Rates
from hf_finetune.tasks import image_classification, text_classification
from hf_finetune.tasks.outputs import SingleLabel

RATES = Rates(
    learning_rate=0.1, head_learning_rate=0.1, probe_learning_rate=0.1, layer_decay=1.0, epochs=1, probe_epochs=1
)
SENTENCES = [f"the film was {word} and the plot {'very ' * (i % 4)}dull" for i, word in enumerate(("good", "bad") * 6)]


def checkpoint_of(task, name: str, labels: tuple[str, ...] = ("a", "b", "c"), size: int | None = None, hidden=None):
    settings = SimpleNamespace(
        model=ModelConfig(name, head_hidden_size=hidden),
        inputs=SimpleNamespace(image_size=size, max_length=None, long_text="truncate"),
    )
    return task.load_model(settings, SingleLabel(list(labels)))


def name_of(task, checkpoint, split, strategy: str = "freeze:1", half=None, views=None) -> str:
    """Return the name of the store for these rows."""
    apply_phase(checkpoint.model, checkpoint.stages, make_phases(strategy, checkpoint.stages, RATES)[0])
    work = Workload(
        "test",
        {"train": task.input.encode(split, checkpoint.processor)},
        task.input.collator(checkpoint.processor),
        task.input.fingerprint,
        1,
        half,
        8,
        views,
    )
    depth = frozen_depth(checkpoint.model, checkpoint.stages)
    with torch.autocast("cpu", dtype=half) if half else torch.no_grad():
        cut = find_cut(checkpoint.model, checkpoint.stages, depth, probes(work.rows["train"], work.collate))
    prefix = hash_prefix(cut, checkpoint.stages, depth)
    return _stores(Path("root"), checkpoint.processor, work, cut, prefix, "train", 1)[0].folder.name


@pytest.fixture
def texts():
    from datasets import ClassLabel, Dataset

    def make(sentences=SENTENCES, labels=(0, 1)):
        rows = {"id": [str(i) for i in range(len(sentences))], "text": list(sentences)}
        return Dataset.from_dict(rows | {"label": [labels[i % 2] for i in range(len(sentences))]}).cast_column(
            "label", ClassLabel(names=["a", "b", "c"])
        )

    return make


@pytest.fixture
def folder(image_folder, tmp_path):
    return Path(shutil.copytree(Path(image_folder) / "test", tmp_path / "images"))


def test_texts(checkpoints, texts):
    def name(model="bert", rows=None, change=lambda model: None, **options):
        labels, hidden = options.pop("names", ("a", "b", "c")), options.pop("hidden", None)
        checkpoint = checkpoint_of(text_classification.TASK, checkpoints(model), labels, hidden=hidden)
        change(checkpoint.model)
        return name_of(text_classification.TASK, checkpoint, rows or texts(), **options)

    def add(parameter: str):
        return lambda model: model.get_parameter(parameter).data.view(-1)[-1].add_(1e-3)

    def heads(model: nn.Module) -> None:
        model.config.num_attention_heads = 4  # the same weights, used differently
        for layer in model.bert.encoder.layer:
            layer.attention.self.num_attention_heads, layer.attention.self.attention_head_size = 4, 8

    same = {
        "again": name(),
        "weights of the head": name(change=add("classifier.weight")),
        "weights above": name(change=add("bert.encoder.layer.1.output.dense.weight")),
        "label names": name(names=("x", "y", "z")),
        "number of labels": name(names=("a", "b")),
        "labels of the rows": name(rows=texts(labels=(2, 0))),
        "an MLP head": name(hidden=7),
        "a cache that the Trainer turns off": name(change=lambda model: setattr(model.config, "use_cache", False)),
    }
    other = {
        "a weight of the embeddings": name(change=add("bert.embeddings.LayerNorm.bias")),
        "a weight of the first block": name(change=add("bert.encoder.layer.0.output.dense.weight")),
        "attention heads": name(change=heads),
        "a word": name(rows=texts([*SENTENCES[:-1], SENTENCES[-1].replace("dull", "bright")])),
        "the order": name(rows=texts([*SENTENCES[1:], SENTENCES[0]])),
        "one row less": name(rows=texts(SENTENCES[:-1])),
        "the depth": name(strategy="freeze:embeddings"),
        "the head only": name(strategy="head"),
        "half precision": name(half=torch.bfloat16),
        "another model": name("roberta"),
    }
    assert {key: value for key, value in same.items() if value != same["again"]} == {}
    assert len({*other.values(), same["again"]}) == len(other) + 1


@pytest.mark.parametrize("model", ["resnet", "timm-resnet", "vit"])
def test_images(model, checkpoints, folder):
    def name(change=lambda checkpoint: None, rows=None, **options):
        labels, size, hidden = (
            options.pop("names", ("a", "b", "c")),
            options.pop("size", None),
            options.pop("hidden", None),
        )
        checkpoint = checkpoint_of(image_classification.TASK, checkpoints(model), labels, size, hidden)
        change(checkpoint)
        return name_of(image_classification.TASK, checkpoint, rows or open_classes(folder, IMAGE).keep(), **options)

    def move_statistics(checkpoint):
        next(m for m in checkpoint.model.modules() if isinstance(m, nn.BatchNorm2d)).running_var[0] += 1e-3

    def other_mean(checkpoint):
        if hasattr(checkpoint.processor, "data_config"):
            checkpoint.processor.data_config["mean"] = (0.5, 0.5, 0.4)
        else:
            checkpoint.processor.image_mean = [0.5, 0.5, 0.4]

    def move_head(checkpoint):
        checkpoint.model.get_parameter(checkpoint.stages[-1].parameters[0]).data += 1

    rows = open_classes(folder, IMAGE).keep()
    again = name()
    same = {
        "weights of the head": name(move_head),
        "label names": name(names=("x", "y", "z")),
        "number of labels": name(names=("a", "b")),
        "labels of the rows": name(rows=rows.remove_columns("label").add_column("label", [0] * len(rows))),
        "an MLP head": name(hidden=7) if model != "timm-resnet" else again,
    }
    other = {
        "the mean of the pixels": name(other_mean),
        "the order": name(rows=rows.select([1, 0, *range(2, len(rows))])),
        "the depth": name(strategy="head"),
        "half precision": name(half=torch.bfloat16),
        "random views": name(views="light 0.0 seed 1"),
        "random views of another seed": name(views="light 0.0 seed 2"),
    }
    if model != "vit":
        other["a statistic of BatchNorm"] = name(move_statistics)
        other["the size"] = name(size=64)
    assert {key: value for key, value in same.items() if value != again} == {}
    assert len({*other.values(), again}) == len(other) + 1


@pytest.mark.parametrize("name", MAKERS)
def test_every_weight_and_buffer_of_the_frozen_stages_changes_the_name(name, checkpoints, folder, texts):
    is_text = (Path(checkpoints(name)) / "tokenizer.json").exists()
    task, rows = (
        (text_classification.TASK, texts())
        if is_text
        else (image_classification.TASK, open_classes(folder, IMAGE).keep())
    )
    checkpoint = checkpoint_of(task, checkpoints(name))
    apply_phase(checkpoint.model, checkpoint.stages, make_phases("freeze:1", checkpoint.stages, RATES)[0])
    depth = frozen_depth(checkpoint.model, checkpoint.stages)
    work = Workload(
        "test",
        {"train": task.input.encode(rows, checkpoint.processor)},
        task.input.collator(checkpoint.processor),
        task.input.fingerprint,
        1,
        None,
        8,
    )
    cut = find_cut(checkpoint.model, checkpoint.stages, depth, probes(work.rows["train"], work.collate))
    seen = {hash_prefix(cut, checkpoint.stages, depth)}
    tensors = [p.data for p in checkpoint.model.parameters() if not p.requires_grad]
    frozen = {id(m) for stage in checkpoint.stages[:depth] for m in map(cut.model.get_submodule, stage.modules)}
    tensors += [b for m in cut.model.modules() if id(m) in frozen for b in m.buffers(recurse=False) if b.numel()]
    for tensor in tensors:
        tensor.view(-1)[-1] += 1
        seen.add(hash_prefix(cut, checkpoint.stages, depth))
    assert len(seen) == len(tensors) + 1
