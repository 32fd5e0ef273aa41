"""Evaluate the saved model as users load it: from ``model/``, in float32, on all held-out rows."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.config import Config
from hf_finetune.console import is_main_process, say, show_table
from hf_finetune.data import Splits
from hf_finetune.evaluation.baseline import Baseline, make_baseline
from hf_finetune.evaluation.judge import Judged, judge
from hf_finetune.evaluation.metrics import HubMetric, hub_metric, score_rows
from hf_finetune.evaluation.prediction.labeller import cached_rows, load_labeller, predict_rows
from hf_finetune.files import public_name, write_json
from hf_finetune.models import Checkpoint, Stage, is_adapter, read_stages
from hf_finetune.strategies import Phase, Plan
from hf_finetune.tasks.task import Task


@dataclass
class Results:
    """The results of a run."""

    metrics: dict[str, Any]  # the content of ``metrics.json``
    judged: str  # the split in ``predictions.parquet``: ``test``, else ``validation``; empty without held-out rows
    details: dict[str, Any] = field(default_factory=dict)  # the content of ``evaluation.json``


def evaluate(config: Config, task: Task, splits: Splits, plan: Plan, timing: dict[str, float]) -> Results:
    """Evaluate ``model/`` on the held-out rows; write ``metrics.json``, ``evaluation.json`` and ``predictions.parquet``.

    Stages that the ``plan`` froze may be read from the activation cache; ``timing`` of the training goes to ``metrics.json``.
    """
    began = time.perf_counter()
    path = config.output_dir / "model" / "config.json"
    labeller = load_labeller(str(config.output_dir), trust_remote_code=config.model.trust_remote_code, task=task)
    model, output = labeller.model, labeller.output
    held_out = {name: split for name, split in splits.items() if name != "train"}
    size = config.training["per_device_eval_batch_size"]
    # The cache identifies the frozen stages by the weights of the saved model.
    base = model.get_base_model() if is_adapter(model) else model
    checkpoint = Checkpoint(model, labeller.processor, read_stages(base), "model")
    last = plan.phases[-1]
    trains = None if last.adapters else set(last.trains)
    kept = cached_rows(config, task, checkpoint, trains, held_out, "the evaluation")
    answers: dict[str, Judged] = {}
    for name, split in held_out.items():
        with kept.replaying():
            raw = predict_rows(model, kept.rows[name], kept.collate, size, predict=output.predict, pool=output.pool)
        answers[name] = Judged(split, output, raw, output.truth_of(split), task.input)
    if "validation" in answers:
        judged = answers["validation"]
        output = output.tune(judged.raw, judged.truth, config.run.metric)
        answers = {name: replace(each, output=output) for name, each in answers.items()}
        if is_main_process():  # ``predict`` reads these values
            settings = json.loads(path.read_text(encoding="utf-8"))
            write_json(path, settings | output.tuned())
    baseline = make_baseline(config, task, splits, next(reversed(answers))) if answers else None
    about = _describe_run(config, task, splits, plan, base, checkpoint.stages)
    about["call"] = task.input.call_options(labeller.processor) | output.PIPELINE_OPTIONS
    return write_results(config.output_dir, answers, config.run.metric, about, timing, began, baseline)


def write_results(
    folder: Path,
    answers: dict[str, Judged],
    metric: str | None,
    about: dict[str, Any],
    timing: dict[str, float],
    began: float,
    baseline: Baseline | None = None,
) -> Results:
    """Evaluate the predictions on each split; print the results, and write the three files.

    The last split is the one in ``predictions.parquet``, and that of the ``baseline``. ``metric`` is the value of
    ``--metric``, ``about`` and ``timing`` are other content of ``evaluation.json`` and ``metrics.json``, and ``began`` is
    the time of :func:`time.perf_counter` when the evaluation began.
    """
    hub = hub_metric(metric, next(iter(answers.values())).output) if answers else None
    scores: dict[str, Any] = {name: score(each, hub) for name, each in answers.items()}
    results = Results(scores, next(reversed(answers), ""), about)
    if results.judged and is_main_process():
        last = answers[results.judged]
        _add_details(results, last, metric, baseline, hub)
        _write_predictions(folder / "predictions.parquet", last)
    results.metrics["timing"] = timing | {"evaluate_seconds": time.perf_counter() - began}
    if is_main_process():
        write_json(folder / "evaluation.json", results.details)
        write_json(folder / "metrics.json", results.metrics)
    _show(results)
    return results


def score(answers: Judged, hub: HubMetric | None = None) -> dict[str, float]:
    """Return all metrics of a split, including the floor, the number of rows and a metric of the Hub."""
    output = answers.output
    metrics = score_rows(output, answers.statistics)
    if hub is not None:
        metrics |= hub.compute(output.decide(answers.raw), answers.truth)
    floor = output.FLOOR
    metrics[f"{floor.kind}_{floor.metric}"] = answers.floor[floor.metric]
    return metrics | {"rows": float(len(answers.truth))}


def _add_details(
    results: Results, answers: Judged, metric: str | None, baseline: Baseline | None, hub: HubMetric | None
) -> None:
    """Add intervals, baseline, calibration, and metrics of labels and slices."""
    name, output = results.judged, answers.output
    chosen = metric if metric in output.METRICS else next(iter(output.METRICS))
    found = judge(answers, results.metrics[name], chosen, baseline, hub)
    texts = answers.input.content_hash(answers.split)
    results.details = results.details | {"judged": name, "tuned": output.tuned(), "texts": texts} | found
    results.metrics |= {
        f"{name}_intervals": {each["name"]: each["interval"] for each in found["metrics"] if each["interval"]},
        f"{name}_per_class": _flat(found["per_label"]),
    }
    for column in found["slices"]:
        figures = {each["value"]: each["metrics"] | {"rows": each["rows"]} for each in column["values"]}
        results.metrics[f"{name}_by_{column['column']}"] = _flat(figures)
    if baseline is not None:
        results.metrics["baseline"] = {e["name"]: e["baseline"] for e in found["metrics"] if e["baseline"] is not None}
    if "calibration" in found:
        before, after = found["calibration"]["before"], found["calibration"]["after"]
        numbers = {"ece": before["ece"], "brier": before["brier"]}
        if after is not None:
            numbers["temperature"] = found["calibration"]["temperature"]
            numbers |= {"ece_calibrated": after["ece"], "brier_calibrated": after["brier"]}
        results.metrics["calibration"] = numbers


def _flat(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{name}/{key}": value for name, scores in figures.items() for key, value in scores.items()}


def _describe_run(
    config: Config, task: Task, splits: Splits, plan: Plan, base: Any, stages: list[Stage]
) -> dict[str, Any]:
    """Return the description of task, data and strategy for ``evaluation.json``, without local paths."""
    parts = {}
    for name, split in splits.items():
        counts = splits.class_counts(name)
        named = None if counts is None else dict(zip(splits.output.names, counts.tolist(), strict=True))
        parts[name] = {"rows": len(split), "counts": named}
    return {
        "task": task.name,
        "problem": splits.output.NAME,
        "labels": splits.output.names,
        "checkpoint": public_name(str(config.model.model_name_or_path)),
        "source": public_name(splits.source),
        "columns": getattr(base.config, "input_columns", {}),
        "data": {"splits": parts, "notes": splits.notes, "skipped": len(splits.skipped)},
        "strategy": [
            {
                "phase": phase.name,
                "epochs": phase.epochs,
                "learning_rate": phase.learning_rate,
                "head_learning_rate": phase.head_learning_rate,
                "stages": _trained(phase, stages, base),
            }
            for phase in plan.phases
        ],
    }


def _trained(phase: Phase, stages: list[Stage], model: Any) -> list[dict[str, Any]]:
    """Return the weights of each stage, and how many of them train at which rate; LoRA matrices are counted apart."""
    found = []
    for index, stage in enumerate(stages):
        sizes = {name: model.get_parameter(name).numel() for name in stage.parameters if "modules_to_save" not in name}
        adapters = sum(size for name, size in sizes.items() if "lora_" in name)  # 0 after a merge
        size, whole = sum(sizes.values()) - adapters, stage.name in phase.trains
        trainable = size if whole else adapters if phase.adapters else 0
        rate = phase.rate(stages, index) if whole or phase.adapters else None
        found.append({"stage": stage.name, "parameters": size, "trainable": trainable, "learning_rate": rate})
    return found


def _write_predictions(path: Path, answers: Judged) -> None:
    """Write one row per example, in order: ``id``, ``label``, predictions, ``logits``, ``group``."""
    import pandas as pd

    output, raw = answers.output, answers.raw
    columns: dict[str, Any] = {"id": answers.split["id"][:], "label": output.truth(answers.truth)}
    columns |= {**output.answers(raw), "logits": [_cell(row) for row in output.cells(raw)]}
    if answers.groups is not None:
        columns["group"] = answers.groups.tolist()
    pd.DataFrame(columns).to_parquet(path, index=False)


def _cell(row: Any) -> Any:
    """Return an array as Parquet stores it: with several axes a list of arrays."""
    return row if np.ndim(row) == 1 and not isinstance(row, list) else [_cell(part) for part in row]


def _show(results: Results) -> None:
    """Print the metrics of the held-out splits, and the comparison with the baseline as a sentence."""
    names = [name for name in ("validation", "test") if name in results.metrics]
    bounds, simple = results.metrics.get(f"{results.judged}_intervals", {}), results.metrics.get("baseline", {})
    rows = [
        (
            key,
            *(_number(results.metrics[name].get(key)) for name in names),
            " to ".join(map(_number, bounds.get(key, ()))),
            _number(simple.get(key)),
        )
        for key in results.metrics.get(results.judged, ())
        if key != "rows"
    ]
    show_table("Results", ("metric", *names, "95 % interval", "baseline"), rows)
    if "headline" in results.details:
        say(results.details["headline"]["verdict"])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
