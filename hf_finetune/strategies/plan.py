"""From a strategy's name to phases, with the defaults filled in and the reasons said."""

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
    """What will be trained.

    Args:
        phases: in their order.
        channels_last: whether convolutions dominate, which compute faster in that memory order.
    """

    phases: list[Phase]
    channels_last: bool = False


class HasDefaults(Protocol):
    """A task, as far as a plan asks it."""

    @property
    def defaults(self) -> Callable[[Facts], dict[str, Default]]:
        """Return the defaults for these facts by the name of the flag, ``strategy`` among them."""


def make_plan(config: Config, task: HasDefaults, checkpoint: Checkpoint, splits: Splits) -> tuple[Config, Plan]:
    """Choose strategy, rates, lengths and batch sizes for this backbone and these rows; put adapters in where the strategy has them.

    Returns:
        The configuration with what was chosen, so that ``config.yaml`` repeats the run as it is; and the plan.

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
    _give_reasons(defaults, config, chosen.value)
    return _with_choices(config, defaults, rates), Plan(phases, _computes_by_convolution(checkpoint.model))


def _computes_by_convolution(model: nn.Module) -> bool:
    """A transformer has a convolution or two, for its patches."""
    return sum(isinstance(module, nn.Conv2d) for module in model.modules()) > 4


def count_weights(model: nn.Module, stages: list[Stage]) -> tuple[list[int], list[int]]:
    """Weights of each stage, and how many of them train as the model stands (adapters included)."""
    owner = stage_lookup(stages)
    sizes, trains = [0] * len(stages), [0] * len(stages)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            trains[owner(name)] += parameter.numel()
        if "lora_" not in name and "modules_to_save" not in name.split("."):
            sizes[owner(name)] += parameter.numel()
    return sizes, trains


def show_phase(model: nn.Module, stages: list[Stage], phase: Phase) -> None:
    """Print the table of stages, parameters, what trains and at which rate."""
    sizes, trains = count_weights(model, stages)
    rows = [
        (stage.name, f"{size:,}", f"{train:,}", f"{phase.rate(stages, index):.2e}" if train else "frozen")
        for index, (stage, size, train) in enumerate(zip(stages, sizes, trains, strict=True))
    ]
    rows.append(("total", f"{sum(sizes):,}", f"{sum(trains):,}", ""))
    show_table(f"Phase {phase.name}: {phase.epochs:g} epochs", ("stage", "parameters", "train", "learning rate"), rows)


_TRAINING = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "warmup_steps",
    "lr_scheduler_type",
    "weight_decay",
    "label_smoothing_factor",
    "train_sampling_strategy",
)


def _value(name: str, config: Config, defaults: dict[str, Default]) -> float:
    """A rate or length: what the user said, or the default."""
    training, own = config.training, config.strategy
    if name.startswith("probe_") and own.strategy in ("lp_ft", "gradual"):
        asked = None  # the flags speak of the phases that train the backbone
    elif name in ("epochs", "probe_epochs"):
        asked = training.get("num_train_epochs")
    elif name == "learning_rate":
        asked = training.get("learning_rate")
    elif name == "layer_decay":
        asked = own.layer_decay
    else:  # who names one rate means it for the head as well
        asked = training.get("learning_rate") if own.head_learning_rate is None else own.head_learning_rate
    return float(defaults[name].value if asked is None else asked)


def _with_choices(config: Config, defaults: dict[str, Default], rates: Rates) -> Config:
    """Return the configuration with the values that were left to us."""
    probe = config.strategy.strategy == "head"
    training = config.training | {n: defaults[n].value for n in _TRAINING if n not in config.explicit}
    training.setdefault("num_train_epochs", rates.probe_epochs if probe else rates.epochs)
    training.setdefault("learning_rate", rates.probe_learning_rate if probe else rates.learning_rate)
    own = config.strategy
    if own.head_learning_rate is None and not probe:
        own = replace(own, head_learning_rate=rates.head_learning_rate)
    if own.layer_decay is None:
        own = replace(own, layer_decay=rates.layer_decay)
    return replace(config, strategy=own, training=training)


def _give_reasons(defaults: dict[str, Default], config: Config, strategy: str) -> None:
    """Say why what was left to us is what it is."""
    flags = {"epochs": "num_train_epochs", "probe_epochs": "num_train_epochs", "probe_learning_rate": "learning_rate"}
    for name, default in defaults.items():
        flag = flags.get(name, name)
        probe = strategy == "head" and name in ("learning_rate", "head_learning_rate", "epochs")
        first = strategy != "head" and name.startswith("probe_")
        if default.reason and flag not in config.explicit and not (probe or first):
            say(f"Default: {flag} = {default.value:.2g}: {default.reason}.")
