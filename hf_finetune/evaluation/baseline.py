"""The cheap baseline that a fine-tuned model has to beat on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.rows.duplicates import label_codes
from hf_finetune.data.rows.finding import draw
from hf_finetune.data.splits.stream import Stream
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.evaluation.prediction.labeller import cached_rows, predict_rows
from hf_finetune.models import logit_layer
from hf_finetune.models.precision import half_precision
from hf_finetune.tasks.outputs import Output
from hf_finetune.tasks.task import Task

MOST_ROWS = 20_000  # training rows to fit on


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
    take part. None if nothing can be learned: rows of a stream, one class, texts without words.
    """
    if isinstance(splits.train, Stream):
        say("No baseline: the training rows are a stream.")
        return None
    output, labels = splits.output, splits.output.truth_of(splits.train)
    rows = draw(len(labels), MOST_ROWS)
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
    output, answer = _fitted(output, splits, labels[rows], features)
    return Baseline(name, output, answer(features[judged]))


def _backbone_features(config: Config, task: Task, splits: Splits, parts: dict[str, Any]) -> dict[str, Any] | None:
    """Return the pretrained head's input features per part, shape (rows, features); None if it has no linear layer."""
    untouched = replace(config, model=replace(config.model, head_hidden_size=None))
    checkpoint = task.load_model(untouched, splits.output, splits.train)
    layer = logit_layer(checkpoint.model, len(splits.output.names))
    if not isinstance(layer, nn.Linear):
        say("No baseline: the head does not end in a linear layer.")
        return None
    half = half_precision(config.training)
    kept = cached_rows(config, task, checkpoint, {checkpoint.stages[-1].name}, parts, "the baseline", half)
    size = int(config.training["per_device_eval_batch_size"])
    layer.register_forward_hook(lambda module, args, logits: args[0])  # the model then returns its inputs as logits
    with kept.replaying():
        found = {name: predict_rows(checkpoint.model, kept.rows[name], kept.collate, size) for name in parts}
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(found["train"])
    return {name: scaler.transform(each) for name, each in found.items()}


def _fitted(
    output: Output, splits: Splits, labels: np.ndarray, features: dict[str, Any]
) -> tuple[Output, Callable[[Any], np.ndarray]]:
    """Return the tuned output and the prediction function of the best regularisation strength."""
    strengths = (1.0, 10.0) if hasattr(features["train"], "tocsr") else (1e-3, 1e-2, 1e-1)
    if "validation" not in features:
        return output, output.fit_linear(features["train"], labels, strengths[0])
    truth, found = output.truth_of(splits.validation), []
    for strength in strengths:
        answer = output.fit_linear(features["train"], labels, strength)
        raw = answer(features["validation"])
        tuned = output.tune(raw, truth, None)
        found.append((metrics_of(tuned, raw, truth)["loss"], tuned, answer))
    _, tuned, answer = min(found, key=lambda each: each[0])
    return tuned, answer
