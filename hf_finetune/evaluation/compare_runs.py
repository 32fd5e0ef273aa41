"""Compare runs that were evaluated on the same rows: which is better, by how much, and how sure that is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from math import ceil, log10
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.errors import UserError
from hf_finetune.evaluation.intervals import Difference, difference, intervals
from hf_finetune.evaluation.metrics import score_rows
from hf_finetune.evaluation.run_folder import read_evaluation
from hf_finetune.tasks import get_task
from hf_finetune.tasks.outputs import Output

_POWER = (1.96 + 0.84) / 1.96  # true difference in half-widths of the interval that is found with a power of 80 %
_TOO_MANY = 10_000_000


@dataclass
class Answers:
    """``predictions.parquet`` of a run, and the output that its raw outputs belong to."""

    folder: Path
    ids: list[str]
    output: Output  # with the run's thresholds and temperature
    raw: np.ndarray  # shape (rows, ...)
    truth: np.ndarray  # the labels as numbers, shape (rows, ...)
    groups: np.ndarray | None  # group of each row, if the run has a group column
    about: dict[str, Any]  # the content of ``evaluation.json``

    @cached_property
    def statistics(self) -> Any:
        """The statistics from which metrics and comparisons are computed."""
        return self.output.statistics(self.raw, self.truth)


def read_answers(folder: Path) -> Answers:
    """Return the predictions of a run on its held-out rows; a ``UserError`` without a finished run or such rows."""
    import pandas as pd

    about = read_evaluation(folder)
    path = folder / "predictions.parquet"
    if not path.is_file():
        raise UserError(
            "the run has no held-out rows", where=str(folder), fix="train it with --test_file or --test_split."
        )
    rows = pd.read_parquet(path)
    output = get_task(about["task"]).outputs.restore(about["problem"], about["labels"], about["tuned"])
    return Answers(
        folder,
        rows["id"].tolist(),
        output,
        output.read_raw(rows["logits"].tolist()),
        output.read_truth(rows["label"].tolist()),
        rows["group"].to_numpy() if "group" in rows else None,
        about,
    )


def compare_runs(folders: list[Path], metric: str | None = None) -> dict[str, Any]:
    """Compare each run with the first one by a paired bootstrap and, with one class per row, by McNemar's test.

    The metric is a built-in one; by default the headline metric of the first run.

    Returns:
        ``metric``, ``rows``, ``runs`` (value and interval of each) and ``comparisons`` (with the first run).

    Raises:
        UserError: a folder is not a finished run, or the runs were evaluated on different rows.
    """
    runs = [read_answers(folder) for folder in folders]
    first = runs[0]
    for other in runs[1:]:
        align(first, other)
    metric = metric or first.about["headline"]["metric"]
    known = first.output.METRICS
    if metric not in known:
        raise UserError(
            f"these runs have no metric {metric!r}", where="--metric", fix=f"choose one of {', '.join(known)}."
        )
    return {
        "metric": metric,
        "rows": len(first.ids),
        "runs": [
            {
                "run": str(run.folder),
                "value": score_rows(run.output, run.statistics)[metric],
                "interval": intervals(run.output, run.statistics, run.groups).get(metric),
            }
            for run in runs
        ],
        "comparisons": [_compare(first, other, metric) for other in runs[1:]],
    }


def align(first: Answers, other: Answers) -> None:
    """Bring the labels of another run into the order of the first; a ``UserError`` if rows or labels differ."""
    what = _what_differs(first, other)
    if not what:
        other.output, other.raw, other.truth = other.output.in_order(first.output.names, other.raw, other.truth)
        pairs = zip(other.truth, first.truth, strict=True)
        wrong = [row for row, pair in enumerate(pairs) if not np.array_equal(*pair)]
        if wrong:
            what = f"{len(wrong)} rows have different labels in the two runs (the first is {first.ids[wrong[0]]})"
    if what:
        raise UserError(
            what,
            where=f"{first.folder} and {other.folder}",
            fix="evaluate both on the same rows: hf-finetune evaluate RUN --test_file FILE, or train with --splits_file.",
        )


def _what_differs(first: Answers, other: Answers) -> str:
    """Return how labels or rows of two runs differ; empty if they do not."""
    if first.output.NAME != other.output.NAME or set(first.output.names) != set(other.output.names):
        return "the runs have different labels"
    if first.ids == other.ids:
        # Ids may be row numbers, so texts are compared too, unless the runs read different columns of the same rows.
        one, two = first.about, other.about
        if one["columns"] != two["columns"] or one["texts"] == two["texts"]:
            return ""
        how = "the same ids with different texts"
    elif sorted(first.ids) == sorted(other.ids):
        how = "a different order"
    else:
        both = len(set(first.ids) & set(other.ids))
        how = f"{len(first.ids)} and {len(other.ids)} rows, {both} ids in both"
    return f"the runs were evaluated on different rows ({how})"


def _compare(first: Answers, other: Answers, metric: str) -> dict[str, Any]:
    gap = difference(first.output, other.statistics, first.statistics, first.groups, metric=metric)
    if gap is None:
        raise UserError(
            f"{len(first.ids)} rows are too few to compare {metric} on",
            where=f"{first.folder} and {other.folder}",
            fix="evaluate both on more rows: hf-finetune evaluate RUN --test_file FILE.",
        )
    found: dict[str, Any] = {"run": str(other.folder), "with": str(first.folder), "difference": asdict(gap)}
    if first.output.ONE_CLASS:
        found["mcnemar"] = mcnemar(*(~each.output.wrong(each.raw, first.truth) for each in (other, first)))
    found["verdict"] = verdict(gap, other.folder.name, first.folder.name)
    return found


def mcnemar(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Run McNemar's exact test (1947) on whether two models are right on the same independent rows, shape (rows,).

    Returns:
        The numbers of rows on which ``both``, ``only_a``, ``only_b`` or ``neither`` is right; and ``p``, the two-sided
        exact binomial p-value, 1 if the models never differ.
    """
    from scipy.stats import binomtest

    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"both": int((a & b).sum()), "only_a": only_a, "only_b": only_b, "neither": int((~a & ~b).sum()), "p": p}


def verdict(found: Difference, a: str, b: str) -> str:
    """Return in one or two sentences which of two named models is better, or that the rows do not show a difference."""
    if found.low > 0 or found.high < 0:
        better, worse = (a, b) if (found.value > 0) == found.greater_is_better else (b, a)
        how = "higher" if found.greater_is_better else "lower"
        low, high = sorted((abs(found.low), abs(found.high)))
        return (
            f"{better} is better than {worse}: its {found.metric} is {abs(found.value):.3g} {how} "
            f"(95 % interval {low:.3g} to {high:.3g})."
        )
    units = "groups of rows" if found.grouped else "rows"
    interval = f"(95 % interval of the difference {found.low:+.3g} to {found.high:+.3g})"
    apart = f"{found.units:,} {units} cannot tell {a} and {b} apart"
    if abs(found.value) < 1e-9:
        return f"{apart}: both have the same {found.metric} {interval}."
    how = "higher" if found.value > 0 else "lower"
    return (
        f"{apart}: the {found.metric} of {a} is {abs(found.value):.3g} {how} than that of {b} {interval}. "
        f"{_needed(found)} {units} would be needed to be sure of a difference of this size."
    )


def _needed(found: Difference) -> str:
    """Return about how many rows show such a difference with a power of 80 %, as the width shrinks with their root."""
    count = max(found.units + 1, found.units * (_POWER * (found.high - found.low) / 2 / abs(found.value)) ** 2)
    if count > _TOO_MANY:
        return f"More than {_TOO_MANY:,}"
    step = 10 ** max(0, int(log10(count)) - 1)  # two digits
    return f"About {ceil(count / step) * step:,}"
