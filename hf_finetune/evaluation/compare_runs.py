"""Compare runs that were evaluated on the same rows: which is better, by how much, and how sure that is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.errors import UserError
from hf_finetune.evaluation.compare import mcnemar, verdict
from hf_finetune.evaluation.intervals import difference, intervals
from hf_finetune.evaluation.metrics import score_rows
from hf_finetune.evaluation.run_folder import Answers, read_answers


def compare_runs(folders: list[Path], metric: str | None = None) -> dict[str, Any]:
    """Compare each run with the first one by a paired bootstrap and, with one class per row, by McNemar's test.

    Args:
        folders: two or more run folders.
        metric: a built-in metric; by default the headline metric of the first run.

    Returns:
        ``metric``, ``rows``, ``runs`` (value and interval of each) and ``comparisons`` (with the first run).

    Raises:
        UserError: a folder is not a finished run, or the runs were evaluated on different rows.
    """
    runs = [read_answers(folder) for folder in folders]
    first = runs[0]
    for other in runs[1:]:
        _align(first, other)
    metric = metric or first.metric
    known = first.output.METRICS
    if metric not in known:
        raise UserError(
            f"these runs have no metric {metric!r}", where="--metric", fix=f"choose one of {', '.join(known)}."
        )
    return {
        "metric": metric,
        "rows": len(first.ids),
        "runs": [_alone(run, metric) for run in runs],
        "comparisons": [_compare(first, other, metric) for other in runs[1:]],
    }


def _alone(run: Answers, metric: str) -> dict[str, Any]:
    value = score_rows(run.output, run.statistics)[metric]
    bounds = intervals(run.output, run.statistics, run.groups)
    return {"run": str(run.folder), "value": value, "interval": bounds.get(metric)}


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
        right = [~each.output.wrong(each.raw, first.truth) for each in (other, first)]
        found["mcnemar"] = asdict(mcnemar(*right))
    found["verdict"] = verdict(gap, other.folder.name, first.folder.name)
    return found


def _how_rows_differ(first: Answers, other: Answers) -> str:
    both = len(set(first.ids) & set(other.ids))
    if len(first.ids) != len(other.ids) or both < len(first.ids):
        return f"{len(first.ids)} and {len(other.ids)} rows, {both} ids in both"
    return "a different order" if first.ids != other.ids else "the same ids with different texts"


def _align(first: Answers, other: Answers) -> None:
    """Bring the labels of another run into the order of the first run.

    Raises:
        UserError: the rows, their labels or the kind of label differ.
    """
    where = f"{first.folder} and {other.folder}"
    fix = "evaluate both on the same rows: hf-finetune evaluate RUN --test_file FILE, or train with --splits_file."
    if first.output.NAME != other.output.NAME or set(first.output.names) != set(other.output.names):
        raise UserError("the runs have different labels", where=where, fix=fix)
    # Ids may be row numbers, so texts are compared too, unless the runs read different columns of the same rows.
    other_texts = first.columns == other.columns and first.texts != other.texts
    if first.ids != other.ids or other_texts:
        what = _how_rows_differ(first, other)
        raise UserError(f"the runs were evaluated on different rows ({what})", where=where, fix=fix)
    other.output, other.raw, other.truth = other.output.in_order(first.output.names, other.raw, other.truth)
    wrong = [row for row, pair in enumerate(zip(other.truth, first.truth, strict=True)) if not np.array_equal(*pair)]
    if len(wrong):
        raise UserError(
            f"{len(wrong)} rows have different labels in the two runs (the first is {first.ids[wrong[0]]})",
            where=where,
            fix=fix,
        )
