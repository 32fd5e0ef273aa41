"""Metrics of some rows: those of the output, the floor, and any metric of the Hub beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def floor_of(output: Output, truth: np.ndarray) -> dict[str, float]:
    """Return the metrics of a constant prediction on these rows."""
    return metrics_of(output, output.constant(truth), truth)


def metric_function(
    output: Output, extra: str | None = None, rows: np.ndarray | None = None
) -> Callable[[Any], dict[str, float]]:
    """Return the Trainer's ``compute_metrics``: the metrics of the output, and one of the Hub where it is asked for.

    Args:
        output: the kind of label.
        extra: the metric of the Hub.
        rows: where the Trainer evaluates chunks of longer texts, the row of each chunk in the order in which it does so;
            all metrics, the loss among them, are then those of the rows.

    Raises:
        UserError: the Hub has no such metric, or cannot be reached.
    """
    hub = load_hub_metric(extra, output.METRICS) if extra and extra not in output.METRICS else None

    def compute(prediction: Any) -> dict[str, float]:
        raw, truth = output.gather(prediction.predictions, prediction.label_ids, rows)
        found = metrics_of(output, raw, truth)
        if rows is None:
            found.pop("loss")  # the Trainer reports that of training
        return found | ({} if hub is None else hub_metric_value(hub, str(extra), output.decide(raw), truth))

    return compute


def load_hub_metric(name: str, built_in: Iterable[str]) -> Any:
    """Return a metric module of the Hub, or of a local folder.

    Raises:
        UserError: there is none of this name.
    """
    import evaluate

    try:
        return evaluate.load(name)
    except (FileNotFoundError, ConnectionError, ModuleNotFoundError, ImportError, OSError) as error:
        raise UserError(
            f"{name!r} is none of the built-in metrics ({', '.join(built_in)}), and the Hub gave none of this name",
            where="--metric",
            fix="choose a built-in metric, or check the name and the network.",
        ) from error


def hub_metric_value(module: Any, name: str, predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the numbers that a Hub metric gives for answers; its first number bears the name of the metric too."""
    try:
        result = module.compute(predictions=predicted.tolist(), references=truth.tolist())
    except ValueError as error:
        if "average" not in str(error):
            raise
        result = module.compute(predictions=predicted.tolist(), references=truth.tolist(), average="macro")
    numbers = {str(key): float(value) for key, value in result.items() if np.ndim(value) == 0}
    if not numbers:
        raise UserError(f"{name!r} gives no single number", where="--metric", fix="choose a metric that gives one.")
    return numbers | {metric_key(name): next(iter(numbers.values()))}


def metric_key(name: str) -> str:
    """Return what a metric is called in ``metrics.json``: the last part of a Hub id or path."""
    return name.rstrip("/").rpartition("/")[2].removesuffix(".py")
