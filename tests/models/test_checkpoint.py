"""A checkpoint is loaded with a head for the user's labels, or refused with a reason."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from hf_finetune.config.options import ModelConfig
from hf_finetune.errors import UserError
from hf_finetune.models.checkpoint import load_artifact, load_checkpoint, load_settings, save_mlp_head_code
from hf_finetune.tasks import image_classification, text_classification

TEXT, IMAGE = text_classification.TASK.auto_class, image_classification.TASK.auto_class
TEXTS = ("bert", "distilbert", "roberta", "deberta", "modernbert")
IMAGES = (
    "resnet",
    "vit",
    "convnext",
    "swin",
    "dinov2",
    "mobilenet",
    "timm-resnet",
    "timm-vit",
    "timm-efficientnet",
)
LABELS = ["no", "yes", "perhaps"]
IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 10, 3]])


def load(path, auto_class, labels=LABELS, processor=None, **options):
    output = {"problem_type": "single_label_classification"}
    return load_checkpoint(ModelConfig(model_name_or_path=str(path), **options), auto_class, labels, processor, output)


def refused(path, auto_class, **options) -> UserError:
    with pytest.raises(UserError) as caught:
        load(path, auto_class, **options)
    return caught.value


def inputs_of(model) -> dict[str, torch.Tensor]:
    if model.main_input_name == "input_ids":
        return {"input_ids": IDS}
    side = 160 if "vit" in getattr(model.config, "architecture", "") else 32
    return {"pixel_values": torch.linspace(-1, 1, 2 * 3 * side * side).reshape(2, 3, side, side)}


def logits_of(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**inputs_of(model)).logits


@pytest.fixture
def trained(checkpoints, tmp_path):
    """Return the folder of an image classifier whose head was trained for LABELS."""
    checkpoint = load(checkpoints("resnet"), IMAGE)
    checkpoint.model.save_pretrained(tmp_path / "trained")
    return tmp_path / "trained", checkpoint.model.state_dict()


# The new head


@pytest.mark.parametrize("name", [*TEXTS, *IMAGES])
def test_every_checkpoint_gets_a_new_head_for_the_labels(name, checkpoints, capsys):
    checkpoint = load(checkpoints(name), TEXT if name in TEXTS else IMAGE)
    model = checkpoint.model
    assert model.config.id2label == {0: "no", 1: "yes", 2: "perhaps"}
    assert model.config.label2id == {"no": 0, "yes": 1, "perhaps": 2}
    assert model.config.num_labels == 3
    assert model.config.problem_type == "single_label_classification"
    assert logits_of(model).shape == (2, 3)
    assert "New head for 3 labels: " in capsys.readouterr().out
    assert set(checkpoint.fresh) <= set(checkpoint.stages[-1].parameters)
    assert [p for p in checkpoint.fresh if model.get_parameter(p).shape[0] == 3]


@pytest.mark.parametrize("name", [*TEXTS, *IMAGES])
def test_the_backbone_has_the_weights_of_the_checkpoint(name, checkpoints):
    checkpoint = load(checkpoints(name), TEXT if name in TEXTS else IMAGE)
    if name.startswith("timm"):
        stored = load_file(Path(checkpoints(name)) / "model.safetensors")
        stock = {f"timm_model.{key}": value for key, value in stored.items()}
    else:
        automatic = transformers.AutoModelForMaskedLM if name in TEXTS else transformers.AutoModelForImageClassification
        stock = automatic.from_pretrained(checkpoints(name)).state_dict()
    for stage in checkpoint.stages[:-1]:
        for parameter in stage.parameters:
            torch.testing.assert_close(checkpoint.model.get_parameter(parameter).data, stock[parameter], rtol=0, atol=0)


def test_a_replaced_head_of_another_size_is_named(checkpoints, capsys):
    checkpoint = load(checkpoints("resnet"), IMAGE)
    assert checkpoint.fresh == ["classifier.1.bias", "classifier.1.weight"]
    assert (
        "New head for 3 labels: classifier.1.bias, classifier.1.weight "
        "(another size in the checkpoint: classifier.1.bias, classifier.1.weight)." in capsys.readouterr().out
    )


def test_the_head_is_kept_when_it_was_trained_for_these_labels(trained, capsys):
    folder, weights = trained
    capsys.readouterr()
    checkpoint = load(folder, IMAGE)
    assert checkpoint.fresh == []
    assert "The checkpoint's head is kept, because it was trained for the same 3 labels." in capsys.readouterr().out
    torch.testing.assert_close(checkpoint.model.state_dict(), weights, rtol=0, atol=0)


@pytest.mark.parametrize("labels", [["yes", "no", "perhaps"], ["a", "b", "c"]], ids=["permuted", "others"])
def test_a_head_of_the_same_size_for_other_labels_is_replaced(trained, labels, capsys):
    folder, weights = trained
    capsys.readouterr()
    checkpoint = load(folder, IMAGE, labels)
    new = checkpoint.model.state_dict()
    assert checkpoint.fresh == ["classifier.1.bias", "classifier.1.weight"]
    assert "New head for 3 labels" in capsys.readouterr().out
    assert not torch.equal(new["classifier.1.weight"], weights["classifier.1.weight"])
    assert checkpoint.model.config.id2label == dict(enumerate(labels))
    for name in new.keys() - set(checkpoint.fresh):
        torch.testing.assert_close(new[name], weights[name], rtol=0, atol=0)


def test_a_text_head_for_other_labels_is_replaced_with_or_without_its_pooler(checkpoints, tmp_path):
    first = load(checkpoints("bert"), TEXT).model
    first.save_pretrained(tmp_path)
    again = load(tmp_path, TEXT, ["a", "b", "c"])
    assert "classifier.weight" in again.fresh
    assert not torch.equal(again.model.classifier.weight, first.classifier.weight)


def test_missing_backbone_weights_are_a_warning(checkpoints, tmp_path, capsys):
    shutil.copytree(checkpoints("vit"), tmp_path / "vit")
    weights = load_file(tmp_path / "vit" / "model.safetensors")
    gone = next(name for name in weights if name.endswith("layernorm_before.weight") or "norm_before" in name)
    del weights[gone]
    save_file(weights, tmp_path / "vit" / "model.safetensors", metadata={"format": "pt"})
    load(tmp_path / "vit", IMAGE)
    assert (
        "Warning: 1 weights of the backbone are not in the checkpoint and are initialised at random"
        in capsys.readouterr().out
    )


def test_unicode_labels_survive_saving(checkpoints, tmp_path):
    labels = ["été", "01", "a b/c"]
    load(checkpoints("resnet"), IMAGE, labels).model.save_pretrained(tmp_path)
    assert load_artifact(tmp_path, IMAGE).config.id2label == dict(enumerate(labels))


# Special cases of particular checkpoints


def test_the_class_count_in_a_timm_configuration_is_ignored(checkpoints):
    folder = checkpoints("timm-resnet")
    assert json.loads((Path(folder) / "config.json").read_text())["model_args"]["num_classes"] == 10
    settings = load_settings(ModelConfig(model_name_or_path=folder))
    assert "num_classes" not in (settings.model_args or {})
    assert load(folder, IMAGE).model.timm_model.num_classes == 3


def test_a_saved_timm_model_loads_with_the_same_logits(checkpoints, tmp_path):
    model = load(checkpoints("timm-efficientnet"), IMAGE).model
    model.save_pretrained(tmp_path)
    again = load_artifact(tmp_path, IMAGE)
    assert again.config.id2label == dict(enumerate(LABELS))
    torch.testing.assert_close(logits_of(again), logits_of(model), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_checkpoints_are_trained_in_float32(kind, checkpoints, tmp_path):
    transformers.AutoModelForImageClassification.from_pretrained(checkpoints("vit")).to(kind).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(kind).removeprefix("torch.")
    model = load(tmp_path, IMAGE).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert str(model.config.dtype) in ("float32", "torch.float32")


def test_batch_norm_of_mobilenet_gets_the_momentum_of_torch(checkpoints, capsys):
    def momenta(model):
        return {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)}

    stock = transformers.AutoModelForImageClassification.from_pretrained(checkpoints("mobilenet"))
    assert momenta(stock) == {0.9997}
    assert momenta(load(checkpoints("mobilenet"), IMAGE).model) == {0.1}
    assert "BatchNorm: the momentum of 27 layers is set to 0.1" in capsys.readouterr().out


def test_other_momenta_are_not_changed(checkpoints, capsys):
    before = load(checkpoints("resnet"), IMAGE).model
    assert {m.momentum for m in before.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert "momentum" not in capsys.readouterr().out


def test_a_model_without_a_padding_id_gets_the_tokenizer_one(checkpoints, tmp_path):
    model = transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(vocab_size=25, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    )
    model.save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoints("bert"))
    assert load(tmp_path, TEXT, processor=tokenizer).model.config.pad_token_id == tokenizer.pad_token_id


# What cannot be loaded


def test_a_folder_without_a_configuration_lists_its_content(tmp_path):
    (tmp_path / "notes.txt").touch()
    error = refused(tmp_path, IMAGE)
    assert error.what == "the folder has no config.json; it contains notes.txt"
    assert error.where == f"--model_name_or_path {tmp_path}"


def test_an_empty_folder(tmp_path):
    assert refused(tmp_path, TEXT).what == "the folder has no config.json; it contains nothing"


@pytest.mark.parametrize(("name", "auto_class"), [("bert", TEXT), ("resnet", IMAGE), ("timm-resnet", IMAGE)])
def test_a_folder_without_weights(name, auto_class, checkpoints, tmp_path):
    shutil.copy(Path(checkpoints(name)) / "config.json", tmp_path)
    assert refused(tmp_path, auto_class).what == "the folder has no weights (model.safetensors)"


@pytest.mark.parametrize("hidden", [None, 8], ids=["linear head", "MLP head"])
def test_a_text_checkpoint_cannot_classify_images(hidden, checkpoints):
    error = refused(checkpoints("bert"), IMAGE, head_hidden_size=hidden)
    assert error.what == "a 'bert' checkpoint cannot be used with AutoModelForImageClassification"
    assert "another task" in error.fix


@pytest.mark.parametrize(("name", "kind"), [("resnet", "resnet"), ("timm-resnet", "timm_wrapper")])
@pytest.mark.parametrize("hidden", [None, 8], ids=["linear head", "MLP head"])
def test_an_image_checkpoint_cannot_classify_text(name, kind, hidden, checkpoints):
    error = refused(checkpoints(name), TEXT, head_hidden_size=hidden)
    assert error.what == f"a {kind!r} checkpoint cannot be used with AutoModelForSequenceClassification"
    assert "another task" in error.fix


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"model_type": "no-such-type"}', '"text"'],
    ids=["cut", "list", "none", "type", "text"],
)
def test_a_broken_configuration(content, checkpoints, tmp_path):
    shutil.copytree(checkpoints("resnet"), tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(content)
    error = refused(tmp_path / "m", IMAGE)
    assert str(tmp_path / "m") in error.where
    assert error.fix.endswith(".")


@pytest.mark.parametrize("name", ["resnet", "timm-resnet"])
def test_broken_weights(name, checkpoints, tmp_path):
    shutil.copytree(checkpoints(name), tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    error = refused(tmp_path / "m", IMAGE)
    assert error.what.startswith("the checkpoint cannot be loaded (")
    assert error.where == f"--model_name_or_path {tmp_path / 'm'}"


def test_an_unknown_name():
    error = refused("nobody/no-such-model", TEXT)
    assert error.what.startswith("no checkpoint was found under this name (")
    assert error.where == "--model_name_or_path nobody/no-such-model"


def test_a_folder_that_is_not_a_saved_model(tmp_path):
    with pytest.raises(UserError) as caught:
        load_artifact(tmp_path, TEXT)
    assert caught.value.where == str(tmp_path)


# The MLP head

MLP = {"resnet": IMAGE, "bert": TEXT, "timm-resnet": IMAGE}

READ_BACK = """
import sys
sys.modules["hf_finetune"] = None  # as if this package were not installed
import numpy, torch, transformers
for auto_class, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    factory = getattr(transformers, auto_class)
    try:
        factory.from_pretrained(folder, trust_remote_code=False)
        print("loaded without consent", end=", ")
    except (ValueError, KeyError, OSError, ImportError):
        print("refused without consent", end=", ")
    model = factory.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        numpy.save(folder + "/logits.npy", model(**torch.load(folder + "/inputs.pt", weights_only=True)).logits.numpy())
    print("then", type(model).__name__, "of", *model.config.id2label.values())
"""


@pytest.fixture(scope="module")
def deep(checkpoints, tmp_path_factory):
    """Return saved models with an MLP head: their folder, and the model in memory."""
    saved = {}
    for name, auto_class in MLP.items():
        folder = tmp_path_factory.mktemp("mlp") / name
        model = load(checkpoints(name), auto_class, head_hidden_size=7).model
        model.save_pretrained(folder)
        save_mlp_head_code(model, folder)
        torch.save(inputs_of(model), folder / "inputs.pt")
        saved[name] = (folder, model)
    return saved


@pytest.fixture(scope="module")
def read_back(python, deep, tmp_path_factory) -> dict[str, str]:
    """Return the output of a new process that loads each saved model without this package."""
    here = tmp_path_factory.mktemp("elsewhere")
    (here / "read.py").write_text(READ_BACK)
    places = [word for name, (folder, _) in deep.items() for word in (MLP[name], str(folder))]
    done = python(["read.py", *places], cwd=here, env=os.environ | {"HF_MODULES_CACHE": str(here / "modules")})
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(deep, [line for line in done.stdout.splitlines() if "consent" in line], strict=True))


@pytest.mark.parametrize("name", list(MLP))
def test_an_mlp_head_has_one_hidden_layer_and_new_weights(name, deep):
    _, model = deep[name]
    head = [m for m in model.modules() if isinstance(m, nn.Sequential) and len(m) == 3 and isinstance(m[1], nn.ReLU)]
    head = [m for m in head if isinstance(m[0], nn.Linear) and isinstance(m[2], nn.Linear)]
    assert len(head) == 1
    first, _, last = head[0]
    assert (first.out_features, last.in_features, last.out_features) == (7, 7, 3)
    assert first.weight.std() > 0
    assert last.weight.std() > 0
    assert not torch.allclose(logits_of(model)[0], logits_of(model)[1])


def test_an_mlp_head_is_printed(checkpoints, capsys):
    checkpoint = load(checkpoints("resnet"), IMAGE, head_hidden_size=7)
    assert "The head is an MLP with 7 hidden units; the saved model loads with trust_remote_code=True." in (
        capsys.readouterr().out
    )
    head = checkpoint.stages[-1]
    assert head.name == "head"
    assert set(head.parameters) == {f"classifier.{name}" for name, _ in checkpoint.model.classifier.named_parameters()}
    assert len(checkpoint.fresh) == 4


@pytest.mark.parametrize("name", list(MLP))
def test_an_mlp_head_loads_without_this_package_with_equal_logits(name, deep, read_back):
    folder, model = deep[name]
    assert read_back[name].endswith("then MlpHeadModel of no yes perhaps")
    np.testing.assert_allclose(np.load(folder / "logits.npy"), logits_of(model).numpy(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", list(MLP))
def test_an_mlp_head_does_not_load_without_trust_remote_code(name, read_back):
    assert read_back[name].startswith("refused without consent")


@pytest.mark.parametrize("name", list(MLP))
def test_an_mlp_head_is_loaded_for_evaluation(name, deep):
    folder, model = deep[name]
    torch.testing.assert_close(logits_of(load_artifact(folder, MLP[name])), logits_of(model), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("hidden", [None, 7], ids=["head as it is", "head asked for again"])
@pytest.mark.parametrize("name", list(MLP))
def test_a_model_with_an_mlp_head_can_be_trained_further(name, hidden, deep):
    folder, model = deep[name]
    again = load(folder, MLP[name], head_hidden_size=hidden, trust_remote_code=True)
    assert again.fresh == []
    torch.testing.assert_close(logits_of(again.model), logits_of(model), rtol=1e-4, atol=1e-7)


def test_without_an_mlp_head_no_code_is_written(checkpoints, tmp_path):
    save_mlp_head_code(load(checkpoints("resnet"), IMAGE).model, tmp_path)
    assert list(tmp_path.iterdir()) == []
