"""The saved model is judged as users will load it: read back from ``model/``, in float32, on every held-out row."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.activations import Kept, Work, keep_activations
from hf_finetune.config import Config
from hf_finetune.console import is_main_process, show_table
from hf_finetune.data import Splits
from hf_finetune.evaluation.metrics import hub_metric_value, load_hub_metric
from hf_finetune.evaluation.multi_label import tune_thresholds
from hf_finetune.evaluation.predict import predict_logits
from hf_finetune.evaluation.targets import MultiLabel, Target, target_of
from hf_finetune.files import write_json
from hf_finetune.models import Checkpoint, load_artifact, read_stages
from hf_finetune.strategies import Plan
from hf_finetune.tasks import Task


@dataclass
class Results:
    """What a run reached.

    Args:
        metrics: the content of ``metrics.json``.
        judged: the split that ``predictions.parquet`` holds: ``test``, else ``validation``.
        per_class: precision, recall, F1 and support of each class on that split.
    """

    metrics: dict[str, dict[str, float]]
    judged: str
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)


def evaluate(config: Config, task: Task, splits: Splits, plan: Plan, timing: dict[str, float]) -> Results:
    """Judge ``model/`` on the validation and test rows; write ``metrics.json`` and ``predictions.parquet``.

    Args:
        config: where the run folder is.
        task: how rows become inputs.
        splits: the rows.
        plan: what was trained; stages that stayed as they were may be read from the activation cache.
        timing: what training took; handed on to ``metrics.json``.
    """
    began = time.perf_counter()
    folder = config.output_dir / "model"
    trust = config.model.trust_remote_code
    model = load_artifact(folder, task.AUTO_CLASS, trust_remote_code=trust)
    processor = task.load_processor(str(folder), trust_remote_code=trust)
    metrics: dict[str, dict[str, float]] = {}
    results = Results(metrics, judged="")
    held_out = {name: split for name, split in splits.items() if name != "train"}
    rows = {name: task.encode(split, processor) for name, split in held_out.items()}
    size = config.training["per_device_eval_batch_size"]
    kept = _keep(config, plan, model, processor, Work("the evaluation", rows, task.collator(processor), 1, None, size))
    target = target_of(model.config)
    for name, split in held_out.items():
        with kept.replaying():
            logits = predict_logits(model, kept.rows[name], kept.collate, size)
        labels = np.asarray(split["label"][:])
        if isinstance(target, MultiLabel) and name == "validation":
            target.thresholds = tune_thresholds(target.values(logits), labels, each=config.run.metric == "f1_macro")
            keep_in_settings(folder, thresholds=target.thresholds)
        metrics[name] = score(target, logits, labels, config.run.metric)
        results.judged = name
        results.per_class = target.by_label(logits, labels)
        if is_main_process() and (name == "test" or splits.test is None):
            write_predictions(config.output_dir / "predictions.parquet", split["id"][:], target, logits, labels)
    if results.per_class:
        metrics[f"{results.judged}_per_class"] = {
            f"{label}/{key}": value for label, scores in results.per_class.items() for key, value in scores.items()
        }
    metrics["timing"] = timing | {"evaluate_seconds": time.perf_counter() - began}
    if is_main_process():
        write_json(config.output_dir / "metrics.json", metrics)
    show_results(results)
    return results


def _keep(config: Config, plan: Plan, model: Any, processor: Any, work: Work) -> Kept:
    """Held-out rows with the activations of the stages that did not train, hashed from the saved model's own weights."""
    last = plan.phases[-1]
    if last.adapters or not work.rows:
        return Kept(work.rows, work.collate)
    stages = read_stages(model)
    frozen = {name for stage in stages if stage.name not in last.trains for name in stage.parameters}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return keep_activations(config.cache, Checkpoint(model, processor, stages, "model"), work)


def score(target: Target, logits: np.ndarray, labels: np.ndarray, extra: str | None = None) -> dict[str, float]:
    """All metrics of a split, the floor and the number of rows among them.

    Args:
        target: the kind of label.
        logits: shape (rows, labels).
        labels: true ids, shape (rows,), or numbers, shape (rows, labels).
        extra: a metric of the Hub to compute as well.
    """
    metrics = target.metrics(logits, labels)
    if extra and extra not in target.METRICS:
        module = load_hub_metric(extra, target.METRICS)
        metrics |= hub_metric_value(module, extra, target.decide(logits), labels)
    return metrics | target.floor(labels) | {"rows": float(len(labels))}


def keep_in_settings(folder: Path, **values: Any) -> None:
    """Write values into the saved model's ``config.json``, which ``predict`` reads them from."""
    if is_main_process():
        path = folder / "config.json"
        write_json(path, json.loads(path.read_text(encoding="utf-8")) | values)


def write_predictions(path: Path, ids: list[str], target: Target, logits: np.ndarray, labels: np.ndarray) -> None:
    """One row an example, in the order of the file: ``id``, ``label``, what the target answers, and the ``logits``."""
    import pandas as pd

    frame = pd.DataFrame({"id": ids, "label": target.truth(labels), **target.answers(logits), "logits": list(logits)})
    frame.to_parquet(path, index=False)


def show_results(results: Results) -> None:
    """Print the metrics of the held-out splits side by side."""
    names = [name for name in ("validation", "test") if name in results.metrics]
    keys = [key for key in results.metrics[names[-1]] if key not in ("rows",)] if names else []
    rows = [(key, *(f"{results.metrics[name].get(key, float('nan')):.4f}" for name in names)) for key in keys]
    show_table("Results", ("metric", *names), rows)
