"""LoRA adapts only the backbone; the head is trained in full."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hf_finetune.config.options import ModelConfig, StrategyConfig
from hf_finetune.errors import UserError
from hf_finetune.models.adapters import add_lora, is_adapter, lora_targets, plain_name
from hf_finetune.models.checkpoint import Checkpoint, load_artifact, load_checkpoint
from hf_finetune.tasks import image_classification, text_classification

IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 10, 3]])
NAMES = ("bert", "distilbert", "deberta", "vit", "swin", "resnet", "mobilenet", "convnext", "timm-resnet", "timm-vit")


@pytest.fixture(scope="module")
def fresh(checkpoints):
    """Return a function that loads a new copy of a tiny checkpoint with a head for three labels."""
    loaded: dict[tuple, Checkpoint] = {}

    def get(name: str, hidden: int | None = None) -> Checkpoint:
        if (name, hidden) not in loaded:
            task = text_classification.TASK if name in ("bert", "distilbert", "deberta") else image_classification.TASK
            settings = ModelConfig(model_name_or_path=checkpoints(name), head_hidden_size=hidden)
            loaded[name, hidden] = load_checkpoint(settings, task.auto_class, ["a", "b", "c"], None)
            for module in loaded[name, hidden].model.modules():
                if isinstance(
                    module, nn.Conv2d
                ):  # with its small initial weights, the signal of a random MobileNet vanishes
                    nn.init.kaiming_normal_(module.weight)
        return copy.deepcopy(loaded[name, hidden])

    return get


def inputs_of(model) -> dict[str, torch.Tensor]:
    if model.config.model_type in ("bert", "distilbert", "deberta-v2"):
        return {"input_ids": IDS}
    side = 160 if getattr(model.config, "architecture", "") == "test_vit" else 32
    return {"pixel_values": torch.linspace(-1, 1, 2 * 3 * side * side).reshape(2, 3, side, side)}


def refused(checkpoint: Checkpoint, wanted: list[str]) -> UserError:
    with pytest.raises(UserError) as caught:
        lora_targets(checkpoint.model, checkpoint.stages, wanted)
    return caught.value


# Which layers


@pytest.mark.parametrize("wanted", [None, ["all-linear"]], ids=["no wish", "all-linear"])
@pytest.mark.parametrize("name", NAMES)
def test_all_linear_never_targets_the_head(name, wanted, fresh):
    checkpoint = fresh(name)
    targets = lora_targets(checkpoint.model, checkpoint.stages, wanted)
    head = set(checkpoint.stages[-1].modules)
    modules = dict(checkpoint.model.named_modules())
    assert targets
    assert not head & set(targets)
    linear = {n for n, m in modules.items() if isinstance(m, nn.Linear)} - head
    if linear:
        assert set(targets) == linear
    else:
        assert {type(modules[target]) for target in targets} == {nn.Conv2d}


@pytest.mark.parametrize("name", ["resnet", "timm-resnet"])
def test_backbones_without_linear_layers_get_lora_on_their_convolutions(name, fresh):
    checkpoint = fresh(name)
    targets = lora_targets(checkpoint.model, checkpoint.stages, None)
    assert set(targets) == {n for n, m in checkpoint.model.named_modules() if isinstance(m, nn.Conv2d)}


def test_grouped_convolutions_are_skipped(fresh):
    checkpoint = fresh("mobilenet")
    targets = lora_targets(checkpoint.model, checkpoint.stages, None)
    groups = {checkpoint.model.get_submodule(target).groups for target in targets}
    assert groups == {1}
    assert len(targets) == 14


def test_names_are_matched_as_suffixes(fresh):
    checkpoint = fresh("bert")
    targets = lora_targets(checkpoint.model, checkpoint.stages, ["query", "self.value"])
    assert targets == [
        f"bert.encoder.layer.{layer}.attention.self.{kind}" for layer in (0, 1) for kind in ("query", "value")
    ]


def test_a_name_is_matched_whole(fresh):
    checkpoint = fresh("bert")
    assert "is named uery" in refused(checkpoint, ["uery"]).what
    assert lora_targets(checkpoint.model, checkpoint.stages, ["output.dense"]) == [
        f"bert.encoder.layer.{layer}.{part}output.dense" for layer in (0, 1) for part in ("attention.", "")
    ]


def test_a_regular_expression_is_matched_against_full_names(fresh):
    checkpoint = fresh("bert")
    targets = lora_targets(checkpoint.model, checkpoint.stages, [r".*layer\.1\..*(query|key)"])
    assert targets == [f"bert.encoder.layer.1.attention.self.{kind}" for kind in ("query", "key")]


def test_convolutions_can_be_named_too(fresh):
    checkpoint = fresh("convnext")
    targets = lora_targets(checkpoint.model, checkpoint.stages, ["pwconv1", "patch_embeddings"])
    assert any(isinstance(checkpoint.model.get_submodule(target), nn.Conv2d) for target in targets)


@pytest.mark.parametrize("wanted", [["nothing"], ["nothing", "neither"]])
def test_a_name_without_a_match_lists_the_available_ones(wanted, fresh):
    error = refused(fresh("bert"), wanted)
    assert (
        error.what == f"no layer of the backbone is named {' or '.join(wanted)}; the names are dense, key, query, value"
    )
    assert error.where == "--lora_target_modules"


def test_one_unknown_name_among_known_ones_is_refused(fresh):
    assert "valeu" in refused(fresh("bert"), ["query", "valeu"]).what


def test_the_classifier_cannot_be_asked_for(fresh):
    assert "no layer of the backbone is named classifier" in refused(fresh("bert"), ["classifier"]).what


def test_a_broken_regular_expression(fresh):
    assert refused(fresh("bert"), ["(query"]).what.startswith("the regular expression is invalid (")


# Names


@pytest.mark.parametrize(
    ("wrapped", "plain"),
    [
        ("base_model.model.a.b.base_layer.weight", "a.b.weight"),
        ("base_model.model.a.b.lora_A.default.weight", "a.b.weight"),
        ("base_model.model.a.b.lora_B.default.bias", "a.b.bias"),
        ("base_model.model.classifier.modules_to_save.default.weight", "classifier.weight"),
        ("base_model.model.classifier.original_module.weight", "classifier.weight"),
        ("base_model.model.a.lora_embedding_A.default", "a"),
        ("base_model.model.a.lora_magnitude_vector.default.weight", "a.weight"),
        ("a.b.weight", "a.b.weight"),
        ("a.my_base_layer.weight", "a.my_base_layer.weight"),
    ],
)
def test_plain_names(wrapped, plain):
    assert plain_name(wrapped) == plain


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_name_of_a_wrapped_model_belongs_to_a_stage(name, fresh):
    checkpoint = add_lora(fresh(name), StrategyConfig(merge_adapter=True))
    known = {parameter for stage in checkpoint.stages for parameter in stage.parameters}
    assert {plain_name(parameter) for parameter, _ in checkpoint.model.named_parameters()} == known


# The wrapped model


@pytest.mark.parametrize("name", NAMES)
def test_only_the_head_and_the_adapters_train(name, fresh):
    checkpoint = add_lora(fresh(name), StrategyConfig(merge_adapter=True))
    head = set(checkpoint.stages[-1].parameters)
    trains = [n for n, p in checkpoint.model.named_parameters() if p.requires_grad]
    assert {plain_name(n) for n in trains if "lora_" not in n} == head
    assert not [n for n in trains if "lora_" in n and plain_name(n) in head]
    assert [n for n in trains if "lora_" in n]


@pytest.mark.parametrize("name", ["bert", "vit", "resnet", "timm-vit"])
def test_a_step_with_labels_changes_head_and_adapters(name, fresh):
    checkpoint = add_lora(fresh(name), StrategyConfig(lora_dropout=0.0, merge_adapter=True))
    model = checkpoint.model
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model.train()
    for _ in range(2):  # lora_A gets a gradient only once lora_B is not zero
        optimiser.zero_grad()
        output = model(**inputs_of(model), labels=torch.tensor([0, 2]))
        output.loss.backward()
        optimiser.step()
    assert output.logits.shape == (2, 3)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= {n for n, p in model.named_parameters() if p.requires_grad}
    assert any("lora_A" in n for n in moved)
    assert any("lora_B" in n for n in moved)
    assert {plain_name(n) for n in moved if "modules_to_save" in n} == set(checkpoint.stages[-1].parameters)


def test_the_trainer_finds_the_labels_of_a_wrapped_model(fresh):
    import inspect

    from transformers.utils.generic import find_labels

    model = add_lora(fresh("bert"), StrategyConfig()).model
    assert find_labels(type(model.get_base_model())) == ["labels"]
    parameters = inspect.signature(model.forward).parameters
    assert "labels" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def test_rank_scale_and_dropout_are_set(fresh):
    settings = StrategyConfig(lora_r=3, lora_alpha=12, lora_dropout=0.25, lora_target_modules=["query"])
    model = add_lora(fresh("bert"), settings).model
    layers = [m for n, m in model.named_modules() if n.endswith("self.query")]
    assert [(m.r["default"], m.scaling["default"], m.lora_dropout["default"].p) for m in layers] == [(3, 4.0, 0.25)] * 2


@pytest.mark.parametrize("name", ["bert", "vit", "mobilenet", "timm-resnet"])
def test_merging_gives_an_ordinary_model_with_the_same_logits(name, fresh):
    plain = fresh(name).model
    model = add_lora(fresh(name), StrategyConfig(merge_adapter=True)).model.eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                parameter.normal_(std=0.1)
        want = model(**inputs_of(plain)).logits
        assert not torch.allclose(want, plain.eval()(**inputs_of(plain)).logits)
        merged = model.merge_and_unload()
        torch.testing.assert_close(merged(**inputs_of(plain)).logits, want, rtol=1e-3, atol=1e-5)
    assert set(merged.state_dict()) == set(plain.state_dict())
    assert type(merged) is type(plain)
    assert is_adapter(model)
    assert not is_adapter(merged)


@pytest.mark.parametrize(
    ("name", "task"), [("bert", text_classification.TASK), ("timm-resnet", image_classification.TASK)]
)
def test_a_saved_adapter_includes_its_head_and_loads_unchanged(name, task, fresh, tmp_path):
    settings = ModelConfig(model_name_or_path=fresh(name).name)
    checkpoint = load_checkpoint(settings, task.auto_class, ["a", "b", "c"], None)
    model = add_lora(checkpoint, StrategyConfig()).model
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.full_like(parameter, 0.05))
        want = model.eval()(**inputs_of(model)).logits
    model.save_pretrained(tmp_path)
    model.get_base_model().config.save_pretrained(tmp_path)
    again = load_artifact(tmp_path, task.auto_class)
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs_of(again)).logits, want, rtol=1e-4, atol=1e-5)
    assert again.get_base_model().config.id2label == {0: "a", 1: "b", 2: "c"}


def test_an_mlp_head_requires_a_merged_adapter(fresh):
    with pytest.raises(UserError, match="an adapter cannot be saved with an MLP head") as caught:
        add_lora(fresh("vit", 7), StrategyConfig())
    assert "--merge_adapter" in caught.value.fix
    checkpoint = add_lora(fresh("vit", 7), StrategyConfig(merge_adapter=True))
    trains = {plain_name(n) for n, p in checkpoint.model.named_parameters() if p.requires_grad and "lora_" not in n}
    assert trains == set(checkpoint.stages[-1].parameters)
    assert checkpoint.model.merge_and_unload().classifier[0].out_features == 7


def test_an_adapter_that_could_not_be_loaded_is_refused_before_training(fresh):
    with pytest.raises(UserError, match="reads attributes of its convolutions") as refusal:
        add_lora(fresh("mobilenet"), StrategyConfig())
    assert refusal.value.fix == "add --merge_adapter."
