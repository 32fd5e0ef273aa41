"""From a strategy's name to phases, with the defaults filled in and the reasons said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from hf_finetune.config import Config
from hf_finetune.console import say, show_table
from hf_finetune.data import Splits
from hf_finetune.models import Checkpoint, Stage, add_lora, plain_name
from hf_finetune.strategies.defaults import Default, Facts, facts_of, recommend, recommend_strategy
from hf_finetune.strategies.phases import Phase, Rates, make_phases


@dataclass
class Plan:
    """What will be trained.

    Args:
        phases: in their order.
        channels_last: whether convolutions dominate, which compute faster in that memory order.
        reasons: why each default is what it is, by its name.
    """

    phases: list[Phase]
    channels_last: bool = False
    reasons: dict[str, str] = field(default_factory=dict)


def make_plan(config: Config, checkpoint: Checkpoint, splits: Splits) -> Plan:
    """Choose rates, lengths and batch sizes for this backbone and these rows; put adapters in where the strategy has them.

    What was chosen is written back into the configuration, so that ``config.yaml`` repeats the run as it is.

    Raises:
        UserError: the strategy does not fit the model.
    """
    facts = facts_of(checkpoint, splits)
    strategy = _choose_strategy(config, facts)
    defaults = recommend(facts, strategy)
    rates = Rates(**{name: _value(name, config, defaults) for name in Rates.__dataclass_fields__})
    phases = make_phases(strategy, checkpoint.stages, rates)
    if any(phase.adapters for phase in phases):
        add_lora(checkpoint, config.strategy)
    config.training |= {name: defaults[name].value for name in _TRAINING if name not in config.explicit}
    _write_back(config, rates, strategy)
    reasons = {name: d.reason for name, d in defaults.items() if name not in config.explicit and d.reason}
    for name, reason in reasons.items():
        say(f"Default: {name} = {_show(defaults[name].value)}: {reason}.")
    return Plan(phases, facts.convolutional, reasons)


def _choose_strategy(config: Config, facts: Facts) -> str:
    if config.strategy.strategy == "auto":
        chosen = recommend_strategy(facts)
        say(f"Default: strategy = {chosen.value}: {chosen.reason}.")
        config.strategy.strategy = chosen.value
    return config.strategy.strategy


def show_phase(model: nn.Module, stages: list[Stage], phase: Phase) -> None:
    """Print the table of stages, parameters, what trains and at which rate."""
    trains: dict[str, int] = {}
    owner = {name: stage.name for stage in stages for name in stage.parameters}
    for name, parameter in model.named_parameters():
        plain = plain_name(name)
        stage = owner.get(plain) or next(s for known, s in owner.items() if known.startswith(plain + "."))
        if parameter.requires_grad:
            trains[stage] = trains.get(stage, 0) + parameter.numel()
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters() if "lora_" not in name}
    counts: dict[str, int] = {}
    for name, size in sizes.items():
        if "modules_to_save" not in name.split("."):
            counts[owner[plain_name(name)]] = counts.get(owner[plain_name(name)], 0) + size
    rows = [
        (
            stage.name,
            f"{counts.get(stage.name, 0):,}",
            f"{trains.get(stage.name, 0):,}",
            f"{phase.rate(stages, index):.2e}" if trains.get(stage.name) else "frozen",
        )
        for index, stage in enumerate(stages)
    ]
    rows.append(("total", f"{sum(counts.values()):,}", f"{sum(trains.values()):,}", ""))
    show_table(f"Phase {phase.name}: {phase.epochs:g} epochs", ("stage", "parameters", "train", "learning rate"), rows)


_TRAINING = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "warmup_steps",
    "lr_scheduler_type",
    "weight_decay",
    "train_sampling_strategy",
)
_ASKED_AS = {"epochs": "num_train_epochs", "probe_epochs": "num_train_epochs", "probe_learning_rate": "learning_rate"}


def _value(name: str, config: Config, defaults: dict[str, Default]) -> float:
    """A rate or length: what the user said, or the default."""
    flag = _ASKED_AS.get(name, name)
    asked = config.training.get(flag) if flag in config.training else getattr(config.strategy, flag, None)
    if name == "probe_learning_rate" and config.strategy.head_learning_rate is not None:
        asked = config.strategy.head_learning_rate
    if name in ("probe_learning_rate", "probe_epochs") and config.strategy.strategy == "lp_ft":
        asked = None  # the flags speak of the phase that trains everything
    return float(defaults[name].value if asked is None else asked)


def _write_back(config: Config, rates: Rates, strategy: str) -> None:
    probe = strategy == "head"
    config.training.setdefault("num_train_epochs", rates.probe_epochs if probe else rates.epochs)
    config.training.setdefault("learning_rate", rates.probe_learning_rate if probe else rates.learning_rate)
    if config.strategy.head_learning_rate is None and not probe:
        config.strategy.head_learning_rate = rates.head_learning_rate
    if config.strategy.layer_decay is None:
        config.strategy.layer_decay = rates.layer_decay


def _show(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
