"""A strategy is a list of phases: what trains, for how long, at which rates. Nothing else asks which strategy runs."""

from __future__ import annotations

from dataclasses import dataclass

from hf_finetune.errors import UserError
from hf_finetune.models import Stage, find_stage, trunk_depth

# Phases of gradual unfreezing: one stage more in each, and several where a network has more stages than this.
MOST_PHASES = 8


@dataclass(frozen=True)
class Phase:
    """One stretch of training with a learning-rate schedule of its own.

    Args:
        name: what the phase is called in tables and folders.
        trains: names of the stages whose own weights train.
        learning_rate: peak rate that the rates of the stages below the head decay from.
        head_learning_rate: peak rate of the head.
        layer_decay: factor on the rate from each stage to the one below.
        epochs: passes over the training rows.
        adapters: whether adapter weights train, in whichever stage they are.
    """

    name: str
    trains: frozenset[str]
    learning_rate: float
    head_learning_rate: float
    layer_decay: float
    epochs: float
    adapters: bool = False

    def rate(self, stages: list[Stage], index: int) -> float:
        """Peak learning rate of the stage ``index``."""
        if index == len(stages) - 1:
            return self.head_learning_rate
        return self.learning_rate * self.layer_decay ** (len(stages) - 1 - index)


@dataclass(frozen=True)
class Rates:
    """What phases need to know about rates and lengths; see :mod:`hf_finetune.strategies.defaults`."""

    learning_rate: float
    head_learning_rate: float
    probe_learning_rate: float
    layer_decay: float
    epochs: float
    probe_epochs: float


def check_name(strategy: str) -> None:
    """Refuse an unknown strategy before any data is read.

    Raises:
        UserError: no strategy has this name.
    """
    if strategy not in ("auto", "full", "head", "lp_ft", "gradual", "lora") and not strategy.startswith("freeze:"):
        raise UserError(
            f"there is no strategy {strategy!r}",
            where="--strategy",
            fix="choose auto, full, head, freeze:STAGE, freeze:DEPTH, lp_ft, gradual or lora.",
        )


def make_phases(strategy: str, stages: list[Stage], rates: Rates) -> list[Phase]:
    """The phases of a strategy over the stages of a model.

    ``full`` trains everything; ``head`` the last stage (a linear probe); ``freeze:X`` all that stands above stage X, or
    above the first X blocks; ``lp_ft`` is ``head`` and then ``full`` (arXiv 2202.10054); ``gradual`` is ``head`` and
    then one stage more in each phase, down to the embeddings or stem (arXiv 1801.06146); ``lora`` trains adapters and the
    head.

    Raises:
        UserError: no such strategy, stage or depth.
    """
    check_name(strategy)
    names = [stage.name for stage in stages]

    def tune(name: str, trains: list[str], epochs: float = rates.epochs, *, adapters: bool = False) -> Phase:
        head = rates.head_learning_rate
        return Phase(name, frozenset(trains), rates.learning_rate, head, rates.layer_decay, epochs, adapters)

    def above(depth: int, epochs: float = rates.epochs) -> Phase:
        return tune(f"above-{names[depth - 1]}" if depth else "full", names[depth:], epochs)

    probe = Phase(
        "head", frozenset(names[-1:]), rates.probe_learning_rate, rates.probe_learning_rate, 1.0, rates.probe_epochs
    )
    if strategy == "head":
        return [probe]
    if strategy == "lp_ft":
        return [probe, tune("full", names)]
    if strategy == "gradual":
        *opening, _ = depths = opened_depths(len(stages))
        last = max(1.0, rates.epochs - len(opening))
        return [probe, *(above(depth, 1.0 if depth else last) for depth in depths)]
    if strategy == "lora":
        return [tune("lora", names[-1:], adapters=True)]
    if strategy == "full":
        return [tune("full", names)]
    frozen = strategy.removeprefix("freeze:")
    depth = trunk_depth(stages, int(frozen)) if frozen.isdecimal() else find_stage(stages, frozen) + 1
    if depth >= len(stages):
        raise UserError(
            f"nothing would train; the stages are {', '.join(names)}",
            where=f"--strategy {strategy}",
            fix="freeze a stage below the head.",
        )
    return [above(depth)]


def opened_depths(stages: int) -> list[int]:
    """How many leading stages are still frozen in each phase of ``gradual`` behind the first: ``[2, 1, 0]`` for 4 stages.

    One stage is opened a phase, as in ULMFiT, while there are at most ``MOST_PHASES`` stages. Deeper networks open
    several, evenly: an epoch for each of 24 blocks would be most of the run.
    """
    steps = min(stages, MOST_PHASES) - 1
    return [stages - 1 - round(step * (stages - 1) / steps) for step in range(1, steps + 1)]
