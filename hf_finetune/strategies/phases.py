"""A strategy is a list of phases: what trains, for how long, at which learning rates. Only this file knows strategies."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hf_finetune.errors import UserError
from hf_finetune.models import Stage, find_stage, trunk_depth

MOST_PHASES = 8  # of gradual unfreezing: a deeper network unfreezes several stages per phase


@dataclass(frozen=True)
class Phase:
    """A part of the training with its own learning-rate schedule."""

    name: str  # in tables and folders
    trains: frozenset[str]  # names of the stages whose own weights train
    learning_rate: float  # peak rate, from which the rates of the stages below the head decay
    head_learning_rate: float
    layer_decay: float  # factor between the rates of a stage and the stage below it
    epochs: float
    adapters: bool = False  # whether adapter weights train, in all stages

    def rate(self, stages: list[Stage], index: int) -> float:
        """Return the peak learning rate of the stage ``index``."""
        if index == len(stages) - 1:
            return self.head_learning_rate
        return self.learning_rate * self.layer_decay ** (len(stages) - 1 - index)


@dataclass(frozen=True)
class Rates:
    """The learning rates and epochs of a run, from which phases are made; see :mod:`hf_finetune.strategies.defaults`."""

    learning_rate: float
    head_learning_rate: float
    probe_learning_rate: float
    layer_decay: float
    epochs: float
    probe_epochs: float


def check_name(strategy: str) -> None:
    """Raise a ``UserError`` if no strategy has this name."""
    if strategy not in ("auto", "full", "head", "lp_ft", "gradual", "lora") and not strategy.startswith("freeze:"):
        raise UserError(
            f"there is no strategy {strategy!r}",
            where="--strategy",
            fix="choose auto, full, head, freeze:STAGE, freeze:DEPTH, lp_ft, gradual or lora.",
        )


def make_phases(strategy: str, stages: list[Stage], rates: Rates) -> list[Phase]:
    """Return the phases of a strategy for the stages of a model.

    ``full`` trains everything; ``head`` the last stage (a linear probe); ``freeze:X`` all stages above stage X, or above
    the first X blocks; ``lp_ft`` is ``head`` and then ``full`` (arXiv 2202.10054); ``gradual`` is ``head`` and then one
    more stage per phase, down to the embeddings or stem (arXiv 1801.06146); ``lora`` trains adapters and the head.

    Raises:
        UserError: there is no such strategy, stage or depth.
    """
    check_name(strategy)
    names = [stage.name for stage in stages]
    full = Phase(
        "full", frozenset(names), rates.learning_rate, rates.head_learning_rate, rates.layer_decay, rates.epochs
    )
    rate = rates.probe_learning_rate
    probe = Phase("head", frozenset(names[-1:]), rate, rate, 1.0, rates.probe_epochs)

    def above(depth: int) -> Phase:
        return replace(full, name=f"above-{names[depth - 1]}", trains=frozenset(names[depth:])) if depth else full

    if strategy == "full":
        return [full]
    if strategy == "head":
        return [probe]
    if strategy == "lp_ft":
        return [probe, full]
    if strategy == "lora":
        return [replace(full, name="lora", trains=probe.trains, adapters=True)]
    if strategy == "gradual":
        depths = frozen_depths(len(stages))
        last = max(1.0, rates.epochs - len(depths) + 1)
        return [probe, *(replace(above(depth), epochs=1.0 if depth else last) for depth in depths)]
    frozen = strategy.removeprefix("freeze:")
    depth = trunk_depth(stages, int(frozen)) if frozen.isdecimal() else find_stage(stages, frozen) + 1
    if depth >= len(stages):
        raise UserError(
            f"no stage would train; the stages are {', '.join(names)}",
            where=f"--strategy {strategy}",
            fix="freeze a stage below the head.",
        )
    return [above(depth)]


def frozen_depths(stages: int) -> list[int]:
    """Return the number of frozen stages in each phase of ``gradual`` after the first: ``[2, 1, 0]`` for 4 stages.

    Each phase unfreezes one stage, as in ULMFiT, or several where the model has more than ``MOST_PHASES`` stages: an
    epoch for each of 24 blocks would be most of the run.
    """
    steps = min(stages, MOST_PHASES) - 1
    return [stages - 1 - round(step * (stages - 1) / steps) for step in range(1, steps + 1)]
