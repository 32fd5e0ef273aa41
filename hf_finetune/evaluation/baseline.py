"""The cheap baseline that a fine-tuned model has to beat on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hf_finetune.activations import Workload, cache_activations
from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.rows.duplicates import label_codes
from hf_finetune.data.splits.stream import Stream
from hf_finetune.evaluation.features import head_inputs
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.models.precision import half_precision, precision
from hf_finetune.tasks.outputs import Output
from hf_finetune.tasks.task import Task

MOST_ROWS = 20_000  # training rows to fit on
_DRAW_SEED = 42


@dataclass
class Baseline:
    """A simple model: its name in words, the output with its own thresholds, and its raw outputs of the evaluated rows."""

    name: str
    output: Output
    raw: np.ndarray


def make_baseline(config: Config, task: Task, splits: Splits, judged: str) -> Baseline | None:
    """Return the predictions of a simple model of the same training rows on the split ``judged``.

    The model is the output's own baseline or a linear model on cheap features: those of the input, or those of the
    pretrained backbone (from the activation cache if possible). Validation rows choose the regularisation. All processes
    take part.

    Returns:
        None if nothing can be learned: rows of a stream, one class, texts without words.
    """
    if isinstance(splits.train, Stream):
        say("No baseline: the training rows are a stream.")
        return None
    output, labels = splits.output, splits.output.truth_of(splits.train)
    rows = _drawn(len(labels))
    if len(np.unique(label_codes(labels[rows]))) < 2:
        return None
    parts = {"train": splits.train.select(rows)} | {n: s for n, s in splits.items() if n in ("validation", judged)}
    some = "" if len(rows) == len(labels) else f" on {len(rows):,} of the {len(labels):,} training rows"
    own = output.own_baseline(parts["train"])
    if own is not None:
        return Baseline(own[0] + some, output, own[1](parts[judged]))
    features = task.input.baseline_features(parts, partial(_backbone_features, config, task, splits, parts))
    if features is None:
        return None
    name = task.input.baseline_name.format(linear=output.LINEAR_MODEL) + some
    held_out = "validation" if "validation" in parts else None
    output, answer = _fitted(output, splits, labels[rows], features, held_out)
    return Baseline(name, output, answer(features[judged]))


def _drawn(count: int) -> np.ndarray:
    if count <= MOST_ROWS:
        return np.arange(count)
    return np.sort(np.random.default_rng(_DRAW_SEED).choice(count, MOST_ROWS, replace=False))


def _backbone_features(config: Config, task: Task, splits: Splits, parts: dict[str, Any]) -> dict[str, Any] | None:
    """Return the pretrained head's input features per part, shape (rows, features); None if it has no linear layer."""
    untouched = replace(config, model=replace(config.model, head_hidden_size=None))
    checkpoint = task.load_model(untouched, splits.output)
    head = set(checkpoint.stages[-1].parameters)
    for name, parameter in checkpoint.model.named_parameters():
        parameter.requires_grad_(name in head)
    asked = {**precision(), **config.training}
    half = half_precision(bf16=bool(asked.get("bf16")), fp16=bool(asked.get("fp16")))
    size = int(config.training["per_device_eval_batch_size"])
    rows = {name: task.input.encode(split, checkpoint.processor) for name, split in parts.items()}
    work = Workload(
        "the baseline", rows, task.input.collator(checkpoint.processor), task.input.fingerprint, 1, half, size
    )
    kept = cache_activations(config.cache, checkpoint, work)
    found = {name: head_inputs(checkpoint.model, len(splits.output.names), kept, name, size) for name in parts}
    if any(each is None for each in found.values()):
        say("No baseline: the head does not end in a linear layer.")
        return None
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(found["train"])
    return {name: scaler.transform(each) for name, each in found.items()}


def _fitted(
    output: Output, splits: Splits, labels: np.ndarray, features: dict[str, Any], held_out: str | None
) -> tuple[Output, Callable[[Any], np.ndarray]]:
    """Return the tuned output and the prediction function of the best regularisation strength."""
    best: tuple[float, Output, Callable[[Any], np.ndarray]] | None = None
    sparse = hasattr(features["train"], "tocsr")
    for strength in (1.0, 10.0) if sparse else (1e-3, 1e-2, 1e-1):
        answer = output.fit_linear(features["train"], labels, strength)
        if held_out is None:
            return output, answer
        truth, raw = output.truth_of(getattr(splits, held_out)), answer(features[held_out])
        tuned = output.tune(raw, truth, None)
        loss = metrics_of(tuned, raw, truth)["loss"]
        if best is None or loss < best[0]:
            best = loss, tuned, answer
    assert best is not None
    return best[1], best[2]
