"""Defaults of tasks whose rows are texts; ``docs/strategies.md`` names the data sets that they were chosen on."""

from __future__ import annotations

import math

from hf_finetune.strategies.defaults import MANY_ROWS, Default, Facts, choose_strategy, common_defaults

HEAD_FACTOR = 5
MANY_CLASSES = 20
# SST-2's first 100 rows: 0.51 after 3 epochs (21 steps), 0.63 after 12; its first 400 rows: 0.79 after 3 (75) as after 6.
FEWEST_STEPS, MOST_EPOCHS = 75, 30


def recommend(facts: Facts) -> dict[str, Default]:
    """Return all defaults for these facts, by the name of the flag."""
    strategy = choose_strategy(facts, Default("full", "text encoders gain most when everything trains"))
    step = 16 if facts.rows < MANY_ROWS else 32  # few texts need the steps more than the speed
    defaults = common_defaults(facts, strategy.value, step)
    fresh = HEAD_FACTOR * defaults["learning_rate"].value
    return defaults | {
        "strategy": strategy,
        "head_learning_rate": Default(fresh, "the fresh head has further to go than the backbone"),
        "epochs": _epochs(facts, step),
        "label_smoothing_factor": _label_smoothing(facts),
        "train_sampling_strategy": Default("group_by_length"),
    }


def _epochs(facts: Facts, step: int) -> Default:
    """Passes over the rows where the backbone trains."""
    if facts.rows >= MANY_ROWS:
        return Default(3.0, f"there are {facts.rows:,} rows")
    count = min(8, max(3, round(2 + math.log2(facts.classes))))
    enough = min(MOST_EPOCHS, math.ceil(FEWEST_STEPS * step / facts.rows))
    if enough > count:
        return Default(
            float(enough), f"{facts.rows:,} rows make few steps an epoch, and an encoder needs {FEWEST_STEPS}"
        )
    return Default(float(count), f"{facts.classes} classes: the more there are, the fewer rows each has")


def _label_smoothing(facts: Facts) -> Default:
    """Share of the target that is spread over all classes."""
    if facts.one_class and facts.classes >= MANY_CLASSES:
        return Default(0.1, f"many of the {facts.classes} classes are close to each other")
    return Default(0.0)
