"""Parameter groups: one learning rate per stage, weight decay on weights only, each trainable parameter once."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
from torch import nn

from hf_finetune.config.options import ModelConfig, StrategyConfig
from hf_finetune.models import Checkpoint, add_lora, load_checkpoint, plain_name
from hf_finetune.strategies import apply_phase, make_phases, parameter_groups
from hf_finetune.strategies.phases import Rates
from hf_finetune.tasks import image_classification, text_classification

RATES = Rates(
    learning_rate=1.0, head_learning_rate=3.0, probe_learning_rate=2.0, layer_decay=0.5, epochs=1, probe_epochs=1
)
NAMES = ("bert", "resnet", "vit", "mobilenet", "timm-resnet", "timm-efficientnet", "timm-vit", "deberta")
DECAY = 0.01


@pytest.fixture(scope="module")
def fresh(checkpoints):
    loaded: dict[str, Checkpoint] = {}

    def get(name: str) -> Checkpoint:
        if name not in loaded:
            task = text_classification.TASK if name in ("bert", "deberta") else image_classification.TASK
            settings = ModelConfig(model_name_or_path=checkpoints(name))
            loaded[name] = load_checkpoint(settings, task.auto_class, ["a", "b", "c"], None)
        return copy.deepcopy(loaded[name])

    return get


def grouped(checkpoint: Checkpoint, strategy: str, wrap=lambda model: model, decayed=None):
    """Return the groups of the first phase, and the name of each parameter by its id."""
    phase = make_phases(strategy, checkpoint.stages, RATES)[0]
    if phase.adapters:
        add_lora(checkpoint, StrategyConfig(merge_adapter=True))  # required by MobileNet
    apply_phase(checkpoint.model, checkpoint.stages, phase)
    names = {id(p): n for n, p in checkpoint.model.named_parameters()}
    return parameter_groups(wrap(checkpoint.model), checkpoint.stages, phase, DECAY, decayed), names


@pytest.mark.parametrize("strategy", ["full", "head", "freeze:1", "lora"])
@pytest.mark.parametrize("name", NAMES)
def test_every_trainable_parameter_is_in_exactly_one_group(name, strategy, fresh):
    checkpoint = fresh(name)
    groups, names = grouped(checkpoint, strategy)
    found = Counter(names[id(parameter)] for group in groups for parameter in group["params"])
    assert found == Counter(n for n, p in checkpoint.model.named_parameters() if p.requires_grad)
    assert all(group["params"] for group in groups)


@pytest.mark.parametrize("strategy", ["full", "freeze:1", "lora"])
@pytest.mark.parametrize("name", NAMES)
def test_each_stage_has_its_learning_rate(name, strategy, fresh):
    checkpoint = fresh(name)
    stages = checkpoint.stages
    groups, names = grouped(checkpoint, strategy)
    index_of = {parameter: index for index, stage in enumerate(stages) for parameter in stage.parameters}
    for group in groups:
        for parameter in group["params"]:
            index = index_of[plain_name(names[id(parameter)])]
            want = 3.0 if index == len(stages) - 1 else 0.5 ** (len(stages) - 1 - index)
            assert group["lr"] == pytest.approx(want), names[id(parameter)]


def test_groups_go_from_the_first_stage_to_the_head(fresh):
    groups, _ = grouped(fresh("bert"), "full")
    rates = [group["lr"] for group in groups]
    assert rates == sorted(rates)
    assert sorted(set(rates)) == [0.125, 0.25, 0.5, 3.0]


def test_a_linear_probe_has_its_own_learning_rate(fresh):
    groups, _ = grouped(fresh("resnet"), "head")
    assert {group["lr"] for group in groups} == {2.0}


@pytest.mark.parametrize("strategy", ["full", "lora"])
@pytest.mark.parametrize("name", NAMES)
def test_biases_and_norms_do_not_decay_and_weights_do(name, strategy, fresh):
    checkpoint = fresh(name)
    groups, names = grouped(checkpoint, strategy)
    decay = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    norms = (nn.LayerNorm, nn.modules.batchnorm._NormBase, nn.GroupNorm)
    seen = Counter()
    for key, module in checkpoint.model.named_modules():
        for kind, _ in module.named_parameters(recurse=False):
            value = decay.get(f"{key}.{kind}")
            if value is None:
                continue
            if kind == "bias" or isinstance(module, norms):
                assert value == 0.0, f"{key}.{kind}"
                seen["spared"] += 1
            elif isinstance(module, (nn.Linear, nn.Conv2d)) and kind == "weight":
                assert value == DECAY, f"{key}.{kind}"
                seen["decayed"] += 1
    assert seen["spared"]
    assert seen["decayed"]


def test_the_names_of_decayed_parameters_can_be_given(fresh):
    groups, names = grouped(fresh("vit"), "head", decayed={"classifier.bias"})
    decay = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert decay == {"classifier.weight": 0.0, "classifier.bias": DECAY}


@pytest.mark.parametrize("strategy", ["full", "lora"])
@pytest.mark.parametrize("attribute", ["module", "_orig_mod", "_fsdp_wrapped_module"])
def test_wrappers_around_the_model_change_nothing(attribute, strategy, fresh):
    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            setattr(self, attribute, inner)

    plain, names = grouped(fresh("bert"), strategy)
    wrapped, wrapped_names = grouped(fresh("bert"), strategy, Wrapper)
    twice, twice_names = grouped(fresh("bert"), strategy, lambda model: Wrapper(Wrapper(model)))

    def readable(groups, names):
        return [(group["lr"], group["weight_decay"], sorted(names[id(p)] for p in group["params"])) for group in groups]

    assert readable(wrapped, wrapped_names) == readable(plain, names)
    assert readable(twice, twice_names) == readable(plain, names)
