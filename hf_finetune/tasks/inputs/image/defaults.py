"""Defaults for images; ``docs/strategies.md`` names the data sets behind them."""

from __future__ import annotations

from hf_finetune.strategies.defaults import Default, Facts, choose_strategy, common_defaults

STEP_ROWS = 32
FEW_ROWS_A_CLASS = 10


def recommend(facts: Facts) -> dict[str, Default]:
    """Return flag → default for these facts."""
    strategy = choose_strategy(facts, _suited(facts))
    return common_defaults(facts, strategy.value, STEP_ROWS) | {"strategy": strategy}


def _suited(facts: Facts) -> Default:
    rows_a_class = facts.rows / max(1, facts.classes)
    if facts.one_class and rows_a_class < FEW_ROWS_A_CLASS:
        return Default("head", f"{rows_a_class:.0f} rows per class are too few to train a backbone")
    return Default("lp_ft", "training the head first preserves the features of the backbone")
