"""Defaults for texts; ``docs/strategies.md`` names the data sets behind them."""

from __future__ import annotations

import math

from hf_finetune.strategies.defaults import MANY_ROWS, Default, Facts, choose_strategy, common_defaults

SUITED = Default("full", "text encoders gain most when all weights train")
HEAD_FACTOR = 5
MANY_CLASSES = 20
# Accuracy on SST-2, first 100 rows: 0.51 after 3 epochs (21 steps), 0.63 after 12; first 400 rows: 0.79 after 3 (75), 6.
FEWEST_STEPS, MOST_EPOCHS = 75, 30


def recommend(facts: Facts, usual_epochs: Default | None = None, suited: Default = SUITED) -> dict[str, Default]:
    """Return flag → default for these facts; the usual epochs depend on the classes if they are not given.

    ``suited`` is the strategy if memory allows it and the user has not chosen.
    """
    strategy = choose_strategy(facts, suited)
    step = 16 if facts.rows < MANY_ROWS else 32  # with few texts, more steps matter more than speed
    defaults = common_defaults(facts, strategy.value, step)
    fresh = HEAD_FACTOR * defaults["learning_rate"].value
    smoothing = Default(0.0)
    if facts.one_class and facts.classes >= MANY_CLASSES:
        smoothing = Default(0.1, f"many of the {facts.classes} classes are similar")
    return defaults | {
        "strategy": strategy,
        "head_learning_rate": Default(fresh, "the new head must change more than the backbone"),
        "epochs": _epochs(facts, step, usual_epochs or _usual_epochs(facts)),
        "label_smoothing_factor": smoothing,
        "train_sampling_strategy": Default("group_by_length"),
    }


def _usual_epochs(facts: Facts) -> Default:
    if facts.rows >= MANY_ROWS:
        return Default(3.0, f"there are {facts.rows:,} rows")
    count = min(8, max(3, round(2 + math.log2(facts.classes))))
    return Default(float(count), f"{facts.classes} classes; more classes have fewer rows each")


def _epochs(facts: Facts, step: int, usual: Default) -> Default:
    """Return the epochs when the backbone trains: the usual ones, or as many as give it enough steps."""
    enough = min(MOST_EPOCHS, math.ceil(FEWEST_STEPS * step / facts.rows))
    if enough > usual.value:
        reason = f"{facts.rows:,} rows give few steps per epoch, and an encoder needs {FEWEST_STEPS}"
        return Default(float(enough), reason)
    return usual
