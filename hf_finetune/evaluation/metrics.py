"""Metrics of some rows: those of the output, the floor, and any metric of the Hub beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs import Output


def score_rows(output: Output, statistics: Any) -> dict[str, float]:
    """Return the metrics of the rows of some statistics, each counted once; those that are not defined are left out."""
    found = output.score(statistics, np.ones((1, len(statistics))))
    return {name: float(value) for name, (value,) in found.items() if not np.isnan(value)}


def metrics_of(output: Output, raw: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the metrics of raw outputs."""
    return score_rows(output, output.statistics(raw, truth))


def metric_function(
    output: Output, extra: str | None = None, rows: np.ndarray | None = None
) -> Callable[[Any], dict[str, float]]:
    """Return the Trainer's ``compute_metrics``: the metrics of the output, and the metric ``extra`` of the Hub.

    Where the Trainer evaluates chunks of longer texts, ``rows`` is the row of each chunk in the order in which it does so;
    all metrics, the loss among them, are then those of the rows."""
    hub = hub_metric(extra, output)

    def compute(prediction: Any) -> dict[str, float]:
        raw, truth = output.gather(prediction.predictions, prediction.label_ids, rows)
        found = metrics_of(output, raw, truth)
        if rows is None:
            found.pop("loss")  # the Trainer reports that of training
        return found | ({} if hub is None else hub.compute(output.decide(raw), truth))

    return compute


@dataclass(frozen=True)
class HubMetric:
    """A metric module of the Hub, or of a local folder."""

    name: str
    module: Any

    def compute(self, predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        """Return the numbers that the metric gives for answers; its first number bears the name of the metric too."""
        rows = {"predictions": predicted.tolist(), "references": truth.tolist()}
        try:
            result = self.module.compute(**rows)
        except ValueError as error:
            if "average" not in str(error):
                raise
            result = self.module.compute(**rows, average="macro")
        numbers = {str(key): float(value) for key, value in result.items() if np.ndim(value) == 0}
        if not numbers:
            raise UserError(
                f"{self.name!r} gives no single number", where="--metric", fix="choose a metric that gives one."
            )
        return numbers | {metric_key(self.name): next(iter(numbers.values()))}


def hub_metric(name: str | None, output: Output) -> HubMetric | None:
    """Load a metric that is not built in, None for those of the output; a ``UserError`` if the Hub gives none."""
    if not name or name in output.METRICS:
        return None
    import evaluate

    try:
        return HubMetric(name, evaluate.load(name))
    except (ImportError, OSError) as error:
        raise UserError(
            f"{name!r} is none of the built-in metrics ({', '.join(output.METRICS)}), and the Hub gave none of this name",
            where="--metric",
            fix="choose a built-in metric, or check the name and the network.",
        ) from error


def metric_key(name: str) -> str:
    """Return what a metric is called in ``metrics.json``: the last part of a Hub id or path."""
    return name.rstrip("/").rpartition("/")[2].removesuffix(".py")
