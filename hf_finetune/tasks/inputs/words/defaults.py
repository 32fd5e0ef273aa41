"""Defaults for texts with a tag for each word; ``docs/strategies.md`` names the data set behind them."""

from __future__ import annotations

from hf_finetune.strategies.defaults import Default, Facts
from hf_finetune.tasks.inputs.text import defaults as text

USUAL_EPOCHS = Default(3.0, "each row has many tags")


def recommend(facts: Facts) -> dict[str, Default]:
    """Return flag → default for these facts: those of texts, with fewer epochs."""
    return text.recommend(facts, USUAL_EPOCHS)
