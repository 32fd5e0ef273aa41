"""Defaults for recordings."""

from __future__ import annotations

from hf_finetune.strategies.defaults import Default, Facts, choose_strategy, common_defaults

STEP_ROWS = 16
FEW_ROWS_A_CLASS = 20


def recommend(facts: Facts) -> dict[str, Default]:
    """Return flag → default for these facts."""
    rows_a_class = facts.rows / max(1, facts.classes)
    suited = Default("lp_ft", "training the head first preserves the features of the backbone")
    if facts.one_class and rows_a_class < FEW_ROWS_A_CLASS:
        suited = Default("head", f"{rows_a_class:.0f} rows per class are too few to train a backbone")
    strategy = choose_strategy(facts, suited)
    return common_defaults(facts, strategy.value, STEP_ROWS) | {"strategy": strategy}
