"""Frozen stages stay bit-identical and in evaluation mode, even when train() is called."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hf_finetune.config.options import ModelConfig, StrategyConfig
from hf_finetune.models import Checkpoint, add_lora, load_checkpoint, plain_name
from hf_finetune.strategies import apply_phase, make_phases
from hf_finetune.strategies.phases import Rates
from hf_finetune.tasks import image_classification, text_classification

RATES = Rates(
    learning_rate=0.1, head_learning_rate=0.1, probe_learning_rate=0.1, layer_decay=1.0, epochs=1, probe_epochs=1
)
NAMES = ("bert", "resnet", "vit", "mobilenet", "timm-resnet", "timm-efficientnet")
NORMED = ("resnet", "mobilenet", "timm-resnet", "timm-efficientnet")
STRATEGIES = ("head", "freeze:1", "lora")
BATCH = 4


@pytest.fixture(scope="module")
def fresh(checkpoints):
    """Return a function that loads a new copy of a tiny checkpoint with a head for three labels and high dropout."""
    loaded: dict[str, Checkpoint] = {}

    def get(name: str) -> Checkpoint:
        if name not in loaded:
            task = text_classification.TASK if name == "bert" else image_classification.TASK
            settings = ModelConfig(model_name_or_path=checkpoints(name))
            checkpoint = load_checkpoint(settings, task.auto_class, ["a", "b", "c"], None)
            for module in checkpoint.model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.5
                if isinstance(getattr(module, "attention_dropout", None), float):
                    module.attention_dropout = 0.5
                if isinstance(
                    module, nn.Conv2d
                ):  # with its small initial weights, the signal of a random MobileNet vanishes
                    nn.init.kaiming_normal_(module.weight)
                if isinstance(module, nn.BatchNorm2d):  # timm initialises the last norm of a residual branch with zeros
                    nn.init.ones_(module.weight)
            loaded[name] = checkpoint
        return copy.deepcopy(loaded[name])

    return get


def prepared(checkpoint: Checkpoint, strategy: str) -> Checkpoint:
    """Return the checkpoint in the first phase of a strategy, after train() was called on all its modules."""
    phase = make_phases(strategy, checkpoint.stages, RATES)[0]
    if strategy == "lora":
        add_lora(checkpoint, StrategyConfig(merge_adapter=True))  # required by MobileNet
    apply_phase(checkpoint.model, checkpoint.stages, phase)
    call_train_everywhere(checkpoint.model)
    return checkpoint


def call_train_everywhere(model: nn.Module) -> None:
    model.eval()
    model.train()
    for module in list(model.modules()):
        module.train()
    for child in model.children():
        child.train(True)


def inputs_of(model, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if model.config.model_type == "bert":
        return {"input_ids": torch.randint(5, 25, (BATCH, 7), generator=generator)}
    return {"pixel_values": torch.randn(BATCH, 3, 32, 32, generator=generator)}


def train_steps(model: nn.Module, steps: int = 3) -> None:
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for step in range(steps):
        optimiser.zero_grad()
        logits = model(**inputs_of(model, step)).logits
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
        optimiser.step()


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], model: nn.Module) -> set[str]:
    after = model.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def trained_stages(checkpoint: Checkpoint, strategy: str) -> frozenset[str]:
    return make_phases(strategy, checkpoint.stages, RATES)[0].trains


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", NAMES)
def test_training_leaves_frozen_weights_and_buffers_bit_identical(name, strategy, fresh):
    checkpoint = prepared(fresh(name), strategy)
    model, trains = checkpoint.model, trained_stages(checkpoint, strategy)
    before = state_of(model)
    train_steps(model)
    moved = changed(before, model)
    own = {plain_name(key) for key in moved if "lora_" not in key}
    frozen = [stage for stage in checkpoint.stages if stage.name not in trains]
    assert frozen
    for stage in frozen:
        assert not own & set(stage.parameters)
        assert not {key for key in own if key.rpartition(".")[0] in stage.modules}, "buffers included"
    assert not {key for key in moved if "original_module" in key}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", NAMES)
def test_trained_weights_change(name, strategy, fresh):
    checkpoint = prepared(fresh(name), strategy)
    model, trains = checkpoint.model, trained_stages(checkpoint, strategy)
    before = state_of(model)
    train_steps(model)
    moved = changed(before, model)
    own = {plain_name(key) for key in moved if "lora_" not in key}
    assert set(checkpoint.stages[-1].parameters) <= own
    for stage in checkpoint.stages:
        if stage.name in trains:
            assert own & set(stage.parameters), stage.name
    for matrix in ("lora_A", "lora_B") if strategy == "lora" else ():
        there = {plain_name(key) for key in before if matrix in key}
        adapted = {plain_name(key) for key in moved if matrix in key}
        assert there
        for stage in checkpoint.stages:
            assert bool(adapted & set(stage.parameters)) is bool(there & set(stage.parameters)), (matrix, stage.name)


@pytest.mark.parametrize("name", NORMED)
def test_batch_norm_of_trained_stages_updates_its_statistics(name, fresh):
    checkpoint = prepared(fresh(name), "freeze:1")
    trains = trained_stages(checkpoint, "freeze:1")
    owner = {module: stage.name for stage in checkpoint.stages for module in stage.modules}
    before = state_of(checkpoint.model)
    train_steps(checkpoint.model, 1)
    moved = changed(before, checkpoint.model)
    for key in before:
        if key.endswith("running_mean"):
            assert (key in moved) is (owner[key.rpartition(".")[0]] in trains), key


@pytest.mark.parametrize("strategy", ["head", "freeze:1"])
@pytest.mark.parametrize("name", NAMES)
def test_the_frozen_stages_give_the_same_output_each_time(name, strategy, fresh):
    checkpoint = prepared(fresh(name), strategy)
    model, trains = checkpoint.model, trained_stages(checkpoint, strategy)
    frozen = {module for stage in checkpoint.stages if stage.name not in trains for module in stage.modules}
    outputs: dict[str, list[torch.Tensor]] = {}

    def keep(key: str):
        def hook(_module, _inputs, output):
            if isinstance(output, torch.Tensor):
                assert not output.requires_grad, key
                outputs.setdefault(key, []).append(output.clone())  # dropout of the head can work in place

        return hook

    for key, module in model.named_modules():
        if key in frozen:
            module.register_forward_hook(keep(key))
    for _ in range(2):
        model(**inputs_of(model))
    assert outputs
    for key, found in outputs.items():
        half = len(found) // 2
        for first, second in zip(found[:half], found[half:], strict=True):
            assert torch.equal(first, second), key


def test_dropout_of_trained_stages_is_on(fresh):
    checkpoint = prepared(fresh("bert"), "freeze:1")
    inputs = inputs_of(checkpoint.model)
    assert not torch.equal(checkpoint.model(**inputs).logits, checkpoint.model(**inputs).logits)
    checkpoint.model.eval()
    assert torch.equal(checkpoint.model(**inputs).logits, checkpoint.model(**inputs).logits)


@pytest.mark.parametrize("name", NAMES)
def test_modules_are_in_the_mode_of_their_stage(name, fresh):
    checkpoint = prepared(fresh(name), "freeze:1")
    trains = trained_stages(checkpoint, "freeze:1")
    modules = dict(checkpoint.model.named_modules())
    for stage in checkpoint.stages:
        assert {modules[module].training for module in stage.modules} == {stage.name in trains}
    checkpoint.model.eval()
    assert not any(module.training for module in modules.values())


def test_lora_keeps_only_batch_norm_in_evaluation_mode(fresh):
    checkpoint = prepared(fresh("timm-resnet"), "lora")
    for module in checkpoint.model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            assert not module.training
        elif next(module.children(), None) is None:
            assert module.training


@pytest.mark.parametrize("name", NAMES)
def test_the_next_phase_unfreezes_the_stages_of_the_first(name, fresh):
    checkpoint = fresh(name)
    model = checkpoint.model
    probe, full = make_phases("lp_ft", checkpoint.stages, RATES)
    apply_phase(model, checkpoint.stages, probe)
    train_steps(model, 1)
    apply_phase(model, checkpoint.stages, full)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    before = state_of(model)
    train_steps(model)
    moved = changed(before, model)
    for stage in checkpoint.stages:
        assert moved & set(stage.parameters), stage.name
    assert {key for key in before if key.endswith("running_var")} <= moved
    model.eval()
    assert not any(module.training for module in model.modules())


def test_a_later_phase_can_freeze_more(fresh):
    checkpoint = fresh("resnet")
    apply_phase(checkpoint.model, checkpoint.stages, make_phases("full", checkpoint.stages, RATES)[0])
    apply_phase(checkpoint.model, checkpoint.stages, make_phases("head", checkpoint.stages, RATES)[0])
    before = state_of(checkpoint.model)
    call_train_everywhere(checkpoint.model)
    train_steps(checkpoint.model)
    assert changed(before, checkpoint.model) == set(checkpoint.stages[-1].parameters)


def test_applying_a_phase_twice_changes_nothing(fresh):
    checkpoint = fresh("vit")
    phase = make_phases("head", checkpoint.stages, RATES)[0]
    for _ in range(2):
        apply_phase(checkpoint.model, checkpoint.stages, phase)
    assert [n for n, p in checkpoint.model.named_parameters() if p.requires_grad] == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert checkpoint.model.classifier.training
    assert not checkpoint.model.vit.layernorm.training


def test_a_copy_of_a_frozen_model_is_frozen_independently(fresh):
    checkpoint = prepared(fresh("resnet"), "head")
    twin = copy.deepcopy(checkpoint.model)
    before = state_of(twin)
    call_train_everywhere(twin)
    train_steps(twin)
    assert changed(before, twin) == set(checkpoint.stages[-1].parameters)
    full = make_phases("full", checkpoint.stages, RATES)[0]
    apply_phase(twin, checkpoint.stages, full)
    assert all(module.training for module in twin.modules())
    assert not checkpoint.model.resnet.embedder.training
