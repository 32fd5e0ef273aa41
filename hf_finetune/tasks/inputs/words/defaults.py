"""Defaults for texts with a tag for each word; ``docs/strategies.md`` names the data set behind them."""

from __future__ import annotations

from hf_finetune.strategies.defaults import HIGHEST_RATE, Default, Facts
from hf_finetune.tasks.inputs.text import defaults as text

SUITED = Default("freeze:1", "words that are not in the training rows keep their place among those that are")
USUAL_EPOCHS = Default(3.0, "each row has many tags")
RATE_FACTOR = 2


def recommend(facts: Facts) -> dict[str, Default]:
    """Return flag → default for these facts: those of texts, with fewer epochs at a higher rate, also of the head."""
    found = text.recommend(facts, USUAL_EPOCHS, SUITED)
    rate = found["learning_rate"]
    if found["strategy"].value != "lora":
        reason = f"{RATE_FACTOR} times that of texts, since there are few epochs"
        rate = Default(min(HIGHEST_RATE, RATE_FACTOR * rate.value), reason)
    return found | {"learning_rate": rate, "head_learning_rate": Default(rate.value)}
