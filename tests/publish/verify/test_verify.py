"""Mutations of saved models: each is caught, and named by its cause; what a run wrote itself is verified.

One fresh process looks at all runs and all mutations; some go through the command as well.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from alone import training_alone
from conftest import FILLER, NEGATIVE, POSITIVE
from mutations import edit, halved, lower_casing, swap_words, tokenizer, weights, without
from transformers.image_processing_base import ImageProcessingMixin
from warm_process import verification_in_a_fork

from hf_finetune.cli.main import main as hf_finetune
from hf_finetune.errors import UserError
from hf_finetune.packaged import load_recipe, recipe_path
from hf_finetune.publish.verify import fresh_process
from hf_finetune.publish.verify.sample import model_facts, read_sample
from hf_finetune.publish.verify.verify import _environment, ask, job, judge, sentence, verify_run

TEXT = ["--num_train_epochs", "2", "--learning_rate", "2e-3", "--bf16", "false"]
RUNS = {
    "text": ("text-classification", "bert", [*TEXT, "--max_length", "8"]),
    "adapter": ("text-classification", "bert", [*TEXT, "--strategy", "lora"]),
    "merged": ("text-classification", "bert", [*TEXT, "--strategy", "lora", "--merge_adapter"]),
    "chunks": ("text-classification", "bert", [*TEXT, "--long_text", "chunk", "--max_length", "8"]),
    "pairs": ("text-classification", "bert", TEXT),
    "several": ("text-classification", "bert", TEXT),
    "numbers": ("text-classification", "bert", TEXT),
    "images": ("image-classification", "resnet", ["--strategy", "full", "--num_train_epochs", "2"]),
    "timm": ("image-classification", "timm-resnet", ["--strategy", "head", "--num_train_epochs", "2"]),
    "image adapter": ("image-classification", "vit", ["--strategy", "lora", "--num_train_epochs", "1"]),
    "mlp": ("image-classification", "resnet", ["--strategy", "head", "--head_hidden_size", "8", "--num_train_epochs", "1"]),
}  # fmt: skip


# Mutations: functions of the model folder


def timm(**values):
    def mutate(model):
        settings = json.loads((model / "config.json").read_text())
        settings["pretrained_cfg"] |= values
        (model / "config.json").write_text(json.dumps(settings))

    return mutate


def permuted(tensors):
    return tensors | {name: tensor.flip(0) for name, tensor in tensors.items() if name.startswith("classifier.")}


def not_merged(tensors):
    """As ``save_pretrained`` of a model would write it from which the adapters were not unloaded."""
    layer = "bert.encoder.layer.0.output.dense"
    found = {name.replace(f"{layer}.", f"{layer}.base_layer."): tensor for name, tensor in tensors.items()}
    matrix = tensors[f"{layer}.weight"]
    return found | {f"{layer}.lora_A.default.weight": matrix[:4], f"{layer}.lora_B.default.weight": matrix[:, :4]}


def swap_labels(model):
    settings = json.loads((model / "config.json").read_text())
    edit("config.json", id2label=dict(zip("01", reversed(settings["id2label"].values()), strict=True)))(model)


def cut_file(model):
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[: len(content) // 2])


def other_base(model):
    """The base checkpoint's place is taken by another one, of the same shape."""
    base = json.loads((model / "adapter_config.json").read_text())["base_model_name_or_path"]
    other = model.parent / "other"
    shutil.copytree(base, other)
    weights(lambda tensors: {k: t.roll(1, 0) for k, t in tensors.items()})(other)
    edit("adapter_config.json", base_model_name_or_path=str(other))(model)


def unmerged_base(model):
    """The whole model without what the adapters learnt: the head is right, the backbone the checkpoint's own."""
    weights(lambda t: {k: v * (1.2 if k.endswith("output.dense.weight") else 1) for k, v in t.items()})(model)


PROCESSOR = "preprocessor_config.json"
MUTATIONS = {
    "image size": (
        "images",
        edit(PROCESSOR, size={"height": 24, "width": 24}),
        "image size: size {'height': 32, 'width': 32} → {'height': 24, 'width': 24}",
    ),
    "centre crop on": (
        "images",
        edit(PROCESSOR, do_center_crop=True, crop_size={"height": 20, "width": 20}),
        "centre crop: do_center_crop nothing → True",
    ),
    "mean": (
        "images",
        edit(PROCESSOR, image_mean=[0.4, 0.4, 0.4]),
        "normalisation (mean): image_mean [0.5, 0.5, 0.5] → [0.4, 0.4, 0.4]",
    ),
    "standard deviation": (
        "images",
        edit(PROCESSOR, image_std=[1, 1, 1]),
        "normalisation (standard deviation): image_std [0.5, 0.5, 0.5] → [1, 1, 1]",
    ),
    "normalisation off": ("images", edit(PROCESSOR, do_normalize=False), "normalisation: do_normalize True → False"),
    "interpolation": ("images", edit(PROCESSOR, resample=0), "interpolation: resample 2 → 0"),
    "timm image size": ("timm", timm(input_size=[3, 24, 24]), "image size: input_size [3, 32, 32] → [3, 24, 24]"),
    "timm centre crop": ("timm", timm(crop_pct=0.5), "centre crop: crop_pct 0.9 → 0.5"),
    "timm mean": ("timm", timm(mean=[0.1, 0.4, 0.3]), "normalisation (mean): mean [0.5, 0.4, 0.3] → [0.1, 0.4, 0.3]"),
    "timm interpolation": (
        "timm",
        timm(interpolation="nearest"),
        "interpolation: interpolation 'bilinear' → 'nearest'",
    ),
    "label order": ("text", swap_labels, "label order ['bad', 'good'] → ['good', 'bad']"),
    "label names": (
        "text",
        edit("config.json", id2label={"0": "LABEL_0", "1": "LABEL_1"}),
        "label names ['bad', 'good'] → ['LABEL_0', 'LABEL_1']",
    ),
    "head missing": (
        "text",
        weights(without("classifier.")),
        "2 weights are missing, and random after loading: classifier.bias, classifier.weight",
    ),
    "head permuted": ("text", weights(permuted), "weights changed since the run: classifier.bias, classifier.weight"),
    "backbone missing": (
        "images",
        weights(without("stages.1")),
        "weights are missing, and random after loading: resnet.encoder.stages.1",
    ),
    "adapter not merged": (
        "merged",
        weights(not_merged),
        "the adapter is not merged: the file has separate LoRA weights",
    ),
    "backbone without the adapter": (
        "merged",
        unmerged_base,
        "weights changed since the run: bert.encoder.layer.0.attention.output.dense.weight",
    ),
    "adapter weights dropped": (
        "adapter",
        weights(without("lora_"), "adapter_model.safetensors"),
        "weights of the adapter are missing",
    ),
    "adapter's head dropped": (
        "adapter",
        weights(without("classifier"), "adapter_model.safetensors"),
        "weights removed since the run: base_model.model.classifier",
    ),
    "adapter file gone": (
        "adapter",
        lambda model: (model / "adapter_config.json").unlink(),
        "adapter_config.json is missing",
    ),
    "other base": ("adapter", other_base, "base checkpoint of the adapter"),
    "lower-casing": (
        "text",
        tokenizer(lower_casing),
        "normaliser of the tokenizer (lower-casing, accents): normalizer nothing → {'type': 'Lowercase'}",
    ),
    "vocabulary order": ("text", tokenizer(swap_words), "vocabulary of the tokenizer: vocabulary '25 entries"),
    "max_length": (
        "text",
        edit("tokenizer_config.json", model_max_length=6),
        "maximum length of texts: model_max_length 8 → 6",
    ),
    "side of the cut": (
        "text",
        edit("tokenizer_config.json", truncation_side="left"),
        "truncation of texts: truncation_side 'right' → 'left'",
    ),
    "half precision": ("text", weights(halved), "weights are saved as F16; the run saved F32"),
    "half precision, by the settings": (
        "text",
        edit("config.json", dtype="float16"),
        "config.json: dtype 'float32' → 'float16'",
    ),
    "problem type": (
        "several",
        edit("config.json", problem_type=None),
        "config.json: problem_type 'multi_label_classification' → nothing",
    ),
    "thresholds": ("several", edit("config.json", thresholds=None), "config.json: thresholds"),
    "units of numbers": (
        "numbers",
        weights(lambda t: t | {"classifier.bias": t["classifier.bias"] * 0}),
        "weights changed since the run: classifier.bias",
    ),
    "file cut": ("text", cut_file, "it cannot be loaded (SafetensorError:"),
    "weights gone": (
        "text",
        lambda model: (model / "model.safetensors").unlink(),
        "weights removed since the run: bert.embeddings",
    ),
    "model type": ("text", edit("config.json", model_type="roberta"), "config.json: model_type 'bert' → 'roberta'"),
    "settings broken": (
        "text",
        lambda model: (model / "config.json").write_text("{"),
        "config.json is not valid JSON (Expecting property name",
    ),
    "activation function": ("text", edit("config.json", hidden_act="relu"), "config.json: hidden_act 'gelu' → 'relu'"),
    "code of the head": ("mlp", edit("config.json", head_hidden_size=4), "config.json: head_hidden_size 8 → 4"),
}
# Settings that no single row's logits show, and float16, which rounds too little in so small a model.
SILENT = {"problem type", "thresholds", "half precision", "half precision, by the settings"}


@pytest.fixture(scope="module")
def runs(checkpoints, text_files, image_folder, tmp_path_factory):
    """A short run of every kind of artifact; none was verified."""
    root = tmp_path_factory.mktemp("verify")
    random = np.random.default_rng(0)
    data = {name: ["--dataset_name", image_folder] for name in RUNS}
    texts = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
    for name, (task, checkpoint, flags) in RUNS.items():
        rows = {"text": _texts, "pairs": _pairs, "several": _several, "numbers": _numbers}.get(name)
        if task == "text-classification":
            data[name] = ["--train_file", str(rows(root, random))] if rows else texts
        output = ["--output_dir", str(root / name)]
        with training_alone():
            load_recipe(recipe_path(task))(
                ["--model_name_or_path", checkpoints(checkpoint), *data[name], *flags, *output]
            )
    return {name: root / name for name in RUNS}


def _texts(root, random):
    """Of five to twelve words, every other one with a capital letter, which the tokenizer does not know."""
    rows = []
    for index in range(120):
        label, words = (("good", POSITIVE), ("bad", NEGATIVE))[index % 2]
        text = " ".join([str(random.choice(words)), *random.choice(FILLER, 4 + index % 8)])
        rows.append([text.capitalize() if index % 4 < 2 else text, label])
    return _write(root / "texts.csv", ["text", "label"], rows)


def _pairs(root, random):
    rows = [[str(random.choice(POSITIVE)), str(random.choice(NEGATIVE)), "ab"[i % 2]] for i in range(80)]
    return _write(root / "pairs.csv", ["premise", "hypothesis", "label"], rows)


def _several(root, random):
    lists = [[], ["glad"], ["sad"], ["glad", "sad"]]
    rows = [{"text": f"{random.choice(POSITIVE)} film", "label": lists[i % 4]} for i in range(80)]
    path = root / "several.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def _numbers(root, random):
    rows = [[f"{random.choice(POSITIVE)} film", f"{1000 + random.normal():.3f}"] for _ in range(80)]
    return _write(root / "numbers.csv", ["text", "label"], rows)


def _write(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def mutants(runs, tmp_path_factory):
    """A copy of a run for every mutation."""
    root = tmp_path_factory.mktemp("mutants")
    for name, (run, mutate, _) in MUTATIONS.items():
        shutil.copytree(runs[run], root / name, ignore=shutil.ignore_patterns("checkpoints"))
        mutate(root / name / "model")
    return {name: root / name for name in MUTATIONS}


@pytest.fixture(scope="module")
def answers(runs, mutants):
    """What one fresh process says of all of them: ``{folder: (sample, answer)}``."""
    folders = [*runs.values(), *mutants.values()]
    samples = [read_sample(folder) for folder in folders]
    found = ask([job(folder, sample) for folder, sample in zip(folders, samples, strict=True)])
    return dict(zip(folders, zip(samples, found, strict=True), strict=True))


@pytest.mark.parametrize("name", RUNS)
def test_what_a_run_saved_is_verified(name, runs, answers):
    sample, answer = answers[runs[name]]
    largest, tolerance = judge(runs[name], sample, answer)
    assert len(sample["rows"]) >= 8
    assert largest <= tolerance / 10  # room enough for other machines
    assert 0 < tolerance < 0.02


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_caught_and_named(name, mutants, answers):
    sample, answer = answers[mutants[name]]
    with pytest.raises(UserError) as caught:
        judge(mutants[name], sample, answer)
    assert caught.value.what.startswith("the saved model differs from the one that was evaluated: ")
    assert MUTATIONS[name][2] in caught.value.what
    assert caught.value.where == str(mutants[name] / "model")
    assert "docs/verify.md" in caught.value.fix


@pytest.mark.parametrize("name", sorted(MUTATIONS.keys() - SILENT))
def test_a_mutation_is_seen_in_the_logits_too(name, mutants, answers):
    """The fingerprints only say why: without them the logits alone would do."""
    sample, answer = answers[mutants[name]]
    if answer["failed"]:
        return
    with pytest.raises(UserError, match="logits differ by up to"):
        judge(mutants[name], sample, answer)


def test_without_fingerprints_the_weights_are_blamed_by_elimination(mutants, answers):
    sample, answer = answers[mutants["head permuted"]]
    unknown = sample | {"weights": model_facts(mutants["head permuted"] / "model")["weights"]}
    with pytest.raises(
        UserError, match="the same inputs give other logits: its weights are not those that were evaluated"
    ):
        judge(mutants["head permuted"], unknown, answer)


# Through the command; its process is a fork of the warm one, which knows this package: the one above did not


@pytest.fixture
def verify_in_a_fork(python):
    with verification_in_a_fork(python):
        yield


@pytest.mark.usefixtures("verify_in_a_fork")
@pytest.mark.parametrize("name", ["image size", "head missing", "adapter weights dropped"])
def test_the_command_ends_with_status_2_and_leaves_the_run_whole(name, mutants, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "0")  # as a launcher leaves it: the fresh process must not wait for a second one
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = set(mutants[name].rglob("*"))
    assert hf_finetune(["verify", str(mutants[name])]) == 2
    error, fix = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {mutants[name]}/model: the saved model differs from the one that was evaluated: ")
    assert MUTATIONS[name][2] in error
    assert fix.startswith("fix: do not publish it: ")
    assert set(mutants[name].rglob("*")) == before


@pytest.mark.usefixtures("verify_in_a_fork")
def test_a_run_ends_with_its_verification(checkpoints, image_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_FINETUNE_VERIFY", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_nobody_may_see_this")
    run = ["--model_name_or_path", checkpoints("timm-resnet"), "--dataset_name", image_folder, "--strategy", "head"]
    load_recipe(recipe_path("image-classification"))([*run, "--num_train_epochs", "1", "--output_dir", str(tmp_path)])
    outcome = json.loads((tmp_path / "verify.json").read_text())
    assert outcome.keys() == {"rows", "largest_difference", "tolerance", "seconds", "left_out"}
    assert outcome["rows"] == 13
    assert outcome["left_out"] == {}
    said = f"gives the same logits for 13 rows (largest difference {outcome['largest_difference']:.0e})."
    assert f"Verified: a fresh process without hf-finetune {said}" in capsys.readouterr().out
    assert (tmp_path / "README.md").exists()


@pytest.mark.usefixtures("verify_in_a_fork")
def test_a_model_that_is_saved_wrongly_fails_its_run(checkpoints, image_folder, tmp_path, monkeypatch):
    """Training and the saved preprocessing differ: the file says what evaluation and pipelines read."""
    model, save = checkpoints("resnet"), ImageProcessingMixin.save_pretrained

    def save_wrongly(processor, folder, **options):
        save(processor, folder, **options)
        edit(PROCESSOR, size={"height": 16, "width": 16})(Path(folder))

    monkeypatch.setattr(ImageProcessingMixin, "save_pretrained", save_wrongly)
    monkeypatch.setenv("HF_FINETUNE_VERIFY", "1")
    run = ["--model_name_or_path", model, "--dataset_name", image_folder, "--strategy", "head"]
    with pytest.raises(
        UserError, match=r"image size: size \{'height': 32, 'width': 32\} → \{'height': 16, 'width': 16\}"
    ):
        load_recipe(recipe_path("image-classification"))(
            [*run, "--num_train_epochs", "1", "--output_dir", str(tmp_path)]
        )
    assert {"model", "metrics.json", "predictions.parquet", "verify"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "verify.json").exists()
    assert not (tmp_path / "README.md").exists()


# What is compared, and with what


def test_rows_in_chunks_are_left_out_and_counted(runs, answers):
    sample, _ = answers[runs["chunks"]]
    [(reason, count)] = sample["left_out"].items()
    assert reason == "longer than 8 tokens, which a pipeline truncates and this run did not"
    assert count + len(sample["rows"]) == 21
    assert all(len(row["facts"]["input_ids"]) <= 8 for row in sample["rows"])


def test_code_that_is_not_our_own_is_not_run(runs, tmp_path):
    shutil.copytree(runs["mlp"], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    sample = read_sample(tmp_path / "run")
    assert job(tmp_path / "run", sample)["trust_remote_code"] is True
    code = tmp_path / "run" / "model" / "modeling_mlp_head.py"
    code.write_text(code.read_text() + "\nprint('anything')\n")
    with pytest.raises(UserError, match="the model contains Python code"):
        job(tmp_path / "run", sample)
    assert job(tmp_path / "run", sample, trust_remote_code=True)["trust_remote_code"] is True


@pytest.mark.parametrize("value", ['x"); print("', "modeling_other.MlpHeadModel"])
def test_names_in_the_settings_cannot_pass_for_our_code(value, runs, tmp_path):
    shutil.copytree(runs["mlp"], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    model = tmp_path / "run" / "model"
    if "(" in value or ")" in value:
        edit("config.json", mlp_head_on=value)(model)
        code = (model / "modeling_mlp_head.py").read_text()
        (model / "modeling_mlp_head.py").write_text(code.rpartition('classes_on("')[0] + f'classes_on("{value}")\n')
    else:
        edit("config.json", auto_map={"AutoModelForImageClassification": value})(model)
    with pytest.raises(UserError, match="the model contains Python code"):
        job(tmp_path / "run", read_sample(tmp_path / "run"))


def test_what_is_no_run_is_refused(runs, tmp_path):
    with pytest.raises(UserError, match="the sample of evaluated rows is missing"):
        verify_run(tmp_path)
    shutil.copytree(runs["text"], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "model"))
    with pytest.raises(UserError, match="there is no saved model"):
        verify_run(tmp_path / "run")


def test_predictions_of_other_rows_are_refused(runs, answers, tmp_path):
    import pandas as pd

    sample, answer = answers[runs["text"]]
    shutil.copytree(runs["text"], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    frame = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    frame[:3].to_parquet(tmp_path / "run" / "predictions.parquet")
    with pytest.raises(UserError, match="lacks the logits of the rows"):
        judge(tmp_path / "run", sample, answer)


def test_the_fresh_process_is_alone(monkeypatch, tmp_path):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "ACCELERATE_USE_FSDP", "FSDP_VERSION", "HF_TOKEN"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", "/somewhere")
    found = _environment(str(tmp_path))
    assert not [name for name in found if name.startswith(("RANK", "LOCAL_", "WORLD", "MASTER", "ACCEL", "FSDP"))]
    assert "HF_TOKEN" not in found
    assert (found["HF_HOME"], found["HF_HUB_OFFLINE"], found["OMP_NUM_THREADS"]) == ("/somewhere", "1", "1")


def test_a_process_that_dies_is_reported(runs, monkeypatch):
    monkeypatch.setattr(fresh_process, "__file__", "/nowhere/fresh_process.py")
    with pytest.raises(UserError, match="the fresh process that verifies the model ended with status 2"):
        verify_run(runs["text"])
    assert not (runs["text"] / "verify.json").exists()


def test_without_memory_on_the_gpu_the_processor_does(monkeypatch):
    class OutOfMemoryError(RuntimeError):
        pass

    def load(job, reports):
        raise OutOfMemoryError if "device" not in job else ValueError(f"on the {job['device']}")

    monkeypatch.setattr(fresh_process, "load", load)
    assert fresh_process.answer({"task": "text-classification"}, []) == {"failed": "ValueError: on the cpu"}


def test_the_outcome_in_words():
    left = {"longer than 8 tokens, which a pipeline truncates and this run did not": 3}
    assert sentence(29, 2.2e-6, left) == (
        "Verified: a fresh process without hf-finetune gives the same logits for 29 rows (largest "
        "difference 2e-06). 3 rows were left out: longer than 8 tokens, which a pipeline truncates and this run did not."
    )
    assert "no held-out rows" in sentence(0, 0.0, {})


def test_a_sample_of_an_earlier_version_is_refused(tmp_path):
    (tmp_path / "verify").mkdir()
    (tmp_path / "verify" / "sample.json").write_text("{}")
    with pytest.raises(UserError, match="the sample was written by an earlier version"):
        read_sample(tmp_path)
