"""What a phase does to a model: frozen stages (no gradients, BatchNorm statistics or dropout) and learning rates."""

from __future__ import annotations

from collections import defaultdict
from types import MethodType
from typing import Any

from torch import nn

from hf_finetune.models import Stage, is_adapter, plain_name, stage_lookup
from hf_finetune.strategies.phases import Phase


def apply_phase(model: nn.Module, stages: list[Stage], phase: Phase) -> None:
    """Make the stages of a phase trainable and freeze the others, also against later calls of ``model.train()``.

    Modules of stages in which nothing trains stay in evaluation mode: BatchNorm keeps its statistics and dropout is off.
    In a frozen stage whose adapters train, only BatchNorm stays in evaluation mode.
    """
    stage_of = {name: stage.name for stage in stages for name in stage.parameters}
    for name, parameter in model.named_parameters():
        if "original_module" in name.split("."):
            parameter.requires_grad_(False)  # peft keeps a copy of the original head
        elif "lora_" in name:
            parameter.requires_grad_(phase.adapters)
        else:
            parameter.requires_grad_(stage_of[plain_name(name)] in phase.trains)
    owner = stage_lookup(stages)
    alive = {owner(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    base: Any = model.get_base_model() if is_adapter(model) else model
    named = dict(base.named_modules())
    for index, stage in enumerate(stages):
        for name in stage.modules:
            module = named.get(name)
            if module is None:
                continue  # part of a head that peft wraps; it trains
            frozen = stage.name not in phase.trains
            hold = frozen and (index not in alive or isinstance(module, nn.modules.batchnorm._NormBase))
            module.__dict__.pop("train", None)
            if hold:
                module.eval()
                module.train = MethodType(_stay_in_eval, module)
    model.train()


def _stay_in_eval(self: nn.Module, mode: bool = True) -> nn.Module:
    return self


def parameter_groups(
    model: nn.Module, stages: list[Stage], phase: Phase, weight_decay: float, decayed: set[str] | None = None
) -> list[dict[str, Any]]:
    """Return the parameter groups of a phase, from the first stage to the head, for any optimiser of torch.

    Frozen parameters are left out. ``decayed`` names those with weight decay: by default those of two dimensions or more.
    """
    owner = stage_lookup(stages)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = name in decayed if decayed is not None else parameter.ndim >= 2
            groups[owner(name), decays].append(parameter)
    return [
        {"params": groups[key], "lr": phase.rate(stages, key[0]), "weight_decay": weight_decay if key[1] else 0.0}
        for key in sorted(groups)
    ]
