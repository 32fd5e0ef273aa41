"""Make the phases of a strategy, with defaults for what the user left open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from torch import nn

from hf_finetune.config import Config
from hf_finetune.console import say, show_table
from hf_finetune.data import Splits
from hf_finetune.models import Checkpoint, Stage, add_lora, stage_lookup
from hf_finetune.strategies.defaults import Default, Facts, facts_of
from hf_finetune.strategies.phases import Phase, Rates, make_phases


@dataclass
class Plan:
    """What will be trained: the phases in order, and whether in the memory order in which convolutions are faster."""

    phases: list[Phase]
    channels_last: bool = False


class HasDefaults(Protocol):
    """The part of a task that a plan needs."""

    @property
    def defaults(self) -> Callable[[Facts], dict[str, Default]]:
        """Return a function from facts to flag → default, including ``strategy``."""


def make_plan(config: Config, task: HasDefaults, checkpoint: Checkpoint, splits: Splits) -> tuple[Config, Plan]:
    """Choose strategy, learning rates, epochs and batch size, and add adapters if the strategy has them.

    Returns:
        The configuration with the chosen values, so that ``config.yaml`` repeats the run; and the plan.

    Raises:
        UserError: the strategy does not fit the model.
    """
    defaults = task.defaults(facts_of(checkpoint, splits, config.strategy.strategy))
    chosen = defaults.pop("strategy")
    if chosen.reason:
        say(f"Default: strategy = {chosen.value}: {chosen.reason}.")
    model = replace(config.model, model_name_or_path=checkpoint.name)
    config = replace(config, model=model, strategy=replace(config.strategy, strategy=chosen.value))
    rates = Rates(**{name: _value(name, config, defaults) for name in Rates.__dataclass_fields__})
    phases = make_phases(chosen.value, checkpoint.stages, rates)
    if any(phase.adapters for phase in phases):
        add_lora(checkpoint, config.strategy)
    _give_reasons(defaults, config)
    # A transformer has one or two convolutions, in its patch embedding.
    convolutional = sum(isinstance(module, nn.Conv2d) for module in checkpoint.model.modules()) > 4
    return _with_choices(config, defaults, rates), Plan(phases, convolutional)


def count_weights(model: nn.Module, stages: list[Stage]) -> tuple[list[int], list[int]]:
    """Return the number of weights, and of trainable weights (adapters included), of each stage."""
    owner = stage_lookup(stages)
    sizes, trains = [0] * len(stages), [0] * len(stages)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            trains[owner(name)] += parameter.numel()
        if "lora_" not in name and "modules_to_save" not in name.split("."):
            sizes[owner(name)] += parameter.numel()
    return sizes, trains


def show_phase(model: nn.Module, stages: list[Stage], phase: Phase) -> None:
    """Print a table of the stages with their weights and learning rates."""
    sizes, trains = count_weights(model, stages)
    rows = [
        (stage.name, f"{size:,}", f"{train:,}", f"{phase.rate(stages, index):.2e}" if train else "frozen")
        for index, (stage, size, train) in enumerate(zip(stages, sizes, trains, strict=True))
    ]
    rows.append(("total", f"{sum(sizes):,}", f"{sum(trains):,}", ""))
    show_table(f"Phase {phase.name}: {phase.epochs:g} epochs", ("stage", "parameters", "train", "learning rate"), rows)


def _value(name: str, config: Config, defaults: dict[str, Default]) -> float:
    """Return a rate or number of epochs: the user's value, or the default."""
    training, own = config.training, config.strategy
    if name.startswith("probe_") and own.strategy in ("lp_ft", "gradual"):
        asked = None  # the flags apply to the phases that train the backbone
    elif name == "layer_decay":
        asked = own.layer_decay
    elif name in ("epochs", "probe_epochs"):
        asked = training.get("num_train_epochs")
    elif name == "learning_rate" or own.head_learning_rate is None:  # which then is the rate of the head as well
        asked = training.get("learning_rate")
    else:
        asked = own.head_learning_rate
    return float(defaults[name].value if asked is None else asked)


def _with_choices(config: Config, defaults: dict[str, Default], rates: Rates) -> Config:
    """Return the configuration with defaults for what the user left open."""
    probe = config.strategy.strategy == "head"
    open_flags = defaults.keys() - Rates.__dataclass_fields__.keys() - config.explicit
    training = {**config.training, **{name: defaults[name].value for name in defaults if name in open_flags}}
    training.setdefault("num_train_epochs", rates.probe_epochs if probe else rates.epochs)
    training.setdefault("learning_rate", rates.probe_learning_rate if probe else rates.learning_rate)
    head = config.strategy.head_learning_rate if probe else rates.head_learning_rate
    own = replace(config.strategy, head_learning_rate=head, layer_decay=rates.layer_decay)
    return replace(config, strategy=own, training=training)


def _give_reasons(defaults: dict[str, Default], config: Config) -> None:
    """Print the chosen defaults of the phases that there are, with their reasons."""
    flags = {"epochs": "num_train_epochs", "probe_epochs": "num_train_epochs", "probe_learning_rate": "learning_rate"}
    probe = config.strategy.strategy == "head"
    hidden = ("learning_rate", "head_learning_rate", "epochs") if probe else ("probe_learning_rate", "probe_epochs")
    for name, default in defaults.items():
        flag = flags.get(name, name)
        if default.reason and name not in hidden and flag not in config.explicit:
            say(f"Default: {flag} = {default.value:.2g}: {default.reason}.")
