"""Freezing that is real: no gradient, BatchNorm statistics that stay as they are, no dropout."""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import nn

from hf_finetune.models import Stage, is_adapter, plain_name, stage_lookup
from hf_finetune.strategies.phases import Phase


def apply_phase(model: nn.Module, stages: list[Stage], phase: Phase) -> None:
    """Make a model train what the phase says, and hold the rest still whatever calls ``model.train()`` later.

    The modules of stages in which nothing trains stay in evaluation mode, so that the buffers of BatchNorm do not move
    and dropout is off. Where a stage is frozen but adapters in it train, only BatchNorm is held.
    """
    stage_of = {name: stage.name for stage in stages for name in stage.parameters}
    for name, parameter in model.named_parameters():
        if "original_module" in name.split("."):
            parameter.requires_grad_(False)  # peft keeps the untouched head beside the one that trains
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
                continue  # inside a head that peft has wrapped, and that trains
            frozen = stage.name not in phase.trains
            hold = frozen and (index not in alive or isinstance(module, nn.modules.batchnorm._NormBase))
            _hold_in_eval(module) if hold else _release(module)
    model.train()


def _hold_in_eval(module: nn.Module) -> None:
    _release(module)
    module.eval()
    module.train = MethodType(_stay_in_eval, module)


def _release(module: nn.Module) -> None:
    module.__dict__.pop("train", None)


def _stay_in_eval(self: nn.Module, mode: bool = True) -> nn.Module:
    return self
