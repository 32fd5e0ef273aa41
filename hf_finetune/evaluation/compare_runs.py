"""Runs judged on the same rows: which is better, by how much, and whether these rows can tell."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.errors import UserError
from hf_finetune.evaluation.compare import mcnemar, verdict
from hf_finetune.evaluation.intervals import difference, intervals
from hf_finetune.evaluation.run_folder import Answers, read_answers
from hf_finetune.tasks.outputs.targets import SingleLabel


def compare_runs(folders: list[Path], metric: str | None = None) -> dict[str, Any]:
    """Every run beside the first one, by paired bootstrap, and by McNemar's test where a row has one class.

    Args:
        folders: two or more run folders.
        metric: a built-in metric; the first run's headline without it.

    Returns:
        ``metric``, ``rows``, ``runs`` (value and interval of each) and ``comparisons`` (with the first).

    Raises:
        UserError: a folder is no finished run, or the runs were judged on other rows.
    """
    runs = [read_answers(folder) for folder in folders]
    first = runs[0]
    for other in runs[1:]:
        _align(first, other)
    metric = metric or first.metric
    known = first.target.METRICS
    if metric not in known:
        raise UserError(
            f"there is no metric {metric!r} here", where="--metric", fix=f"choose one of {', '.join(known)}."
        )
    return {
        "metric": metric,
        "rows": len(first.ids),
        "runs": [_alone(run, metric) for run in runs],
        "comparisons": [_beside(first, other, metric) for other in runs[1:]],
    }


def _alone(run: Answers, metric: str) -> dict[str, Any]:
    value = run.target.metrics(run.logits, run.labels)[metric]
    bounds = intervals(run.target, run.logits, run.labels, run.groups)
    return {"run": str(run.folder), "value": value, "interval": bounds.get(metric)}


def _beside(first: Answers, other: Answers, metric: str) -> dict[str, Any]:
    gap = difference(
        other.target, other.logits, first.logits, first.labels, first.groups, metric=metric, b_target=first.target
    )
    if gap is None:
        raise UserError(
            f"{len(first.ids)} rows are too few to compare {metric} on",
            where=f"{first.folder} and {other.folder}",
            fix="judge both on more rows: hf-finetune evaluate RUN --test_file FILE.",
        )
    found: dict[str, Any] = {"run": str(other.folder), "with": str(first.folder), "difference": asdict(gap)}
    if isinstance(first.target, SingleLabel):
        right = [np.asarray(each.target.decide(each.logits) == first.labels) for each in (other, first)]
        found["mcnemar"] = asdict(mcnemar(*right))
    found["verdict"] = verdict(gap, other.folder.name, first.folder.name)
    return found


def _told_apart(first: Answers, other: Answers) -> str:
    both = len(set(first.ids) & set(other.ids))
    if len(first.ids) != len(other.ids) or both < len(first.ids):
        return f"{len(first.ids)} and {len(other.ids)} rows, {both} ids in both"
    return "another order" if first.ids != other.ids else "the same ids, other texts"


def _align(first: Answers, other: Answers) -> None:
    """Bring the labels of another run into the order of the first; refuse other rows.

    Raises:
        UserError: the rows, their labels or the kind of label differ.
    """
    where = f"{first.folder} and {other.folder}"
    fix = "judge both on the same rows: hf-finetune evaluate RUN --test_file FILE, or train with --splits_file."
    if type(first.target) is not type(other.target) or set(first.target.names) != set(other.target.names):
        raise UserError("the runs have other labels", where=where, fix=fix)
    # Row numbers are the same of any two files; runs that read other columns of the same rows may be compared.
    other_texts = first.columns == other.columns and first.texts != other.texts
    if first.ids != other.ids or other_texts:
        what = _told_apart(first, other)
        raise UserError(f"the runs were judged on other rows ({what})", where=where, fix=fix)
    order = [other.target.names.index(name) for name in first.target.names]
    other.logits = other.logits[:, order]
    if getattr(other.target, "thresholds", None):
        other.target.thresholds = [other.target.thresholds[i] for i in order]  # type: ignore[attr-defined]
    if other.labels.ndim == 2:
        other.labels = other.labels[:, order]
    else:
        other.labels = np.argsort(order)[other.labels]
    other.target.names = list(first.target.names)
    wrong = np.flatnonzero((other.labels != first.labels).reshape(len(first.ids), -1).any(axis=1))
    if len(wrong):
        raise UserError(
            f"{len(wrong)} rows have other labels in the two runs (the first: {first.ids[wrong[0]]})",
            where=where,
            fix=fix,
        )
