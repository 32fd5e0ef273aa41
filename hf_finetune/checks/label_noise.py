"""Find probably mislabelled rows: out-of-fold confident learning (arXiv 1911.00068) on backbone features."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hf_finetune.activations.cut import evaluating, tensors_of
from hf_finetune.data import Splits
from hf_finetune.data.rows.finding import DRAW_SEED, MOST_NAMED, Section, percent
from hf_finetune.evaluation.prediction.labeller import predict_rows
from hf_finetune.models import Checkpoint
from hf_finetune.tasks.outputs.confident_learning import find_label_errors

MOST_ROWS, FEWEST_ROWS, FOLDS = 5000, 50, 5
_STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # values of inverse regularisation to try
_MANY = 0.05  # share of suspicious rows from which they are a warning,
_SURE = 0.6  # if they are at least this share of the classifier's errors; otherwise the classifier is weak


@dataclass(frozen=True)
class Suspicion:
    """Rows with a suspicious label, the most suspicious first."""

    rows: np.ndarray  # row numbers
    suggested: np.ndarray  # the more probable class
    margin: np.ndarray  # probability of the suggested class minus that of the given one
    accuracy: float  # of the out-of-fold classifier, against the given labels


def check_label_noise(
    splits: Splits, checkpoint: Checkpoint, encode: Callable[[Any], Any], collate: Any, batch_size: int
) -> Section:
    """Return the section on mislabelled training rows; ``encode`` turns a split into model inputs."""
    section = Section("Label noise", "label_noise")
    if not splits.output.ONE_CLASS:
        section.sentences.append("Not looked for: rows have no single class.")
        return section
    labels = splits.output.truth_of(splits.train).astype(np.int64)
    rows = _usable(section, splits.output.names, labels)
    if not len(rows):
        return section
    split, labels = splits.train.select(rows), labels[rows]
    found = find_suspicious(backbone_features(checkpoint, encode(split), collate, batch_size), labels)
    majority = float(np.bincount(labels).max() / len(rows))
    section.facts |= {"rows": len(rows), "out_of_fold_accuracy": found.accuracy, "majority": majority}
    section.sentences.append(
        f"A linear classifier on the frozen backbone's features repeats {percent(found.accuracy, 1)} of the labels of "
        f"{len(rows):,} of {len(splits.train):,} training rows, none of which it was fitted on ({FOLDS} folds)."
    )
    if found.accuracy - majority < 0.25 * (1 - majority):
        section.sentences.append(
            f"Always the most frequent class would repeat {percent(majority, 1)}: too little is learnt to suspect a label."
        )
        return section
    _report(section, splits, found, split)
    return section


def _usable(section: Section, names: list[str], labels: np.ndarray) -> np.ndarray:
    """Return the training rows to use: classes with a row per fold, at most ``MOST_ROWS``, drawn by class."""
    counts = np.bincount(labels, minlength=len(names))
    enough = counts >= FOLDS
    rows = np.flatnonzero(enough[labels])
    if len(rows) < FEWEST_ROWS or enough.sum() < 2:
        section.sentences.append(
            f"Not looked for: {FEWEST_ROWS} training rows of two classes with {FOLDS} rows each are needed."
        )
        return rows[:0]
    small = int((counts > 0).sum() - enough.sum())
    if small:
        section.sentences.append(f"{small} classes with fewer than {FOLDS} training rows are left out.")
    if len(rows) <= MOST_ROWS:
        return rows
    # By class, so that rare classes keep one row per fold.
    random = np.random.default_rng(DRAW_SEED)
    drawn = []
    for label in np.flatnonzero(enough):
        own = np.flatnonzero(labels == label)
        drawn.append(random.permutation(own)[: max(FOLDS, round(MOST_ROWS * len(own) / len(rows)))])
    return np.sort(np.concatenate(drawn))


def backbone_features(checkpoint: Checkpoint, rows: Any, collate: Any, batch_size: int) -> np.ndarray:
    """Return the output of the last stage below the head, averaged over tokens or positions, shape (rows, width).

    The module of these stages that is called last gives it, so this works for any architecture.
    """
    last: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        first = tensors_of(output)[:1]
        if first and first[0].ndim >= 2:
            last[:] = first

    def below_head(model: Any, inputs: dict[str, Any]) -> np.ndarray:
        model(**inputs)
        return _pooled(last.pop(), inputs.get("attention_mask")).float().cpu().numpy()

    model = checkpoint.model
    with evaluating(model), ExitStack() as hooks:
        for stage in checkpoint.stages[:-1]:
            for name in stage.modules:
                hooks.enter_context(model.get_submodule(name).register_forward_hook(keep))
        return predict_rows(model, rows, collate, batch_size, lambda share: None, predict=below_head)


def _pooled(output: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return (rows, width) from (rows, tokens, width), (rows, channels, height, width) or (rows, width)."""
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    if output.ndim == 3 and mask is not None and mask.shape[1] == output.shape[1]:
        return (output * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return output.mean(dim=1) if output.ndim == 3 else output


def find_suspicious(features: np.ndarray, labels: np.ndarray) -> Suspicion:
    """Return suspicious labels by confident learning with out-of-fold logistic regression.

    ``features`` has the shape (rows, width), ``labels`` (rows,), with at least one row of each class per fold.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes, ids = np.unique(labels, return_inverse=True)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=DRAW_SEED)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3))
    # Log-loss on one fold chooses the regularisation, because margins need calibrated probabilities.
    one = [next(folds.split(features, ids))]
    search = GridSearchCV(model, {"logisticregression__C": _STRENGTHS}, scoring="neg_log_loss", cv=one, refit=False)
    model.set_params(**search.fit(features, ids).best_params_)
    probabilities = cross_val_predict(model, features, ids, cv=folds, method="predict_proba")
    rows, suggested, margin = find_label_errors(probabilities, ids)
    accuracy = float((probabilities.argmax(axis=1) == ids).mean())
    return Suspicion(rows, classes[suggested], margin, accuracy)


def _report(section: Section, splits: Splits, found: Suspicion, split: Any) -> None:
    section.facts["suspicious"] = len(found.rows)
    if not len(found.rows):
        section.sentences.append("No label is suspicious.")
        return
    named = split.select(found.rows[:MOST_NAMED].tolist())
    rows = [
        (own, splits.output.names[int(given)], splits.output.names[int(other)], f"{margin:.2f}")
        for own, given, other, margin in zip(
            named["id"][:], named["label"][:], found.suggested, found.margin, strict=False
        )
    ]
    columns = ("row", "given", "looks like", "margin")
    section.facts["most_suspicious"] = [dict(zip(("id", *columns[1:]), row, strict=True)) for row in rows]
    section.table("Training rows that are most likely mislabelled", columns, rows)
    many = max(_MANY, _SURE * (1 - found.accuracy)) * len(split)
    section.add(
        "label-noise",
        "warning" if len(found.rows) > many else "info",
        f"{len(found.rows):,} of {len(split):,} training rows ({percent(len(found.rows), len(split))}) look like another "
        "class than their label says",
        where="train split",
        rows=[f"{own} ({given}, looks like {other})" for own, given, other, _ in rows],
        fix="look at the first of them: mislabelled rows come first, rows that are hard to tell follow.",
    )
