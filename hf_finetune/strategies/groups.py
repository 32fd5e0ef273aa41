"""Parameter groups for the optimiser: a learning rate per stage, no weight decay on biases and norms."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import nn

from hf_finetune.models import Stage, stage_lookup
from hf_finetune.strategies.phases import Phase


def parameter_groups(
    model: nn.Module, stages: list[Stage], phase: Phase, weight_decay: float, decayed: set[str] | None = None
) -> list[dict[str, Any]]:
    """Return the parameter groups of a phase, from the first stage to the head, for any optimiser of torch.

    Args:
        model: the model, wrapped or not; frozen parameters are left out.
        stages: its stages.
        phase: gives the learning rate of each stage.
        weight_decay: of the parameters in ``decayed``; others have none.
        decayed: names of parameters; by default those of two dimensions or more.
    """
    owner = stage_lookup(stages)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = name in decayed if decayed is not None else parameter.ndim >= 2
            groups[owner(name), decays].append(parameter)
    return [
        {
            "params": parameters,
            "lr": phase.rate(stages, index),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (index, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
