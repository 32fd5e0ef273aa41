"""Find probably mislabelled rows: out-of-fold confident learning (arXiv 1911.00068) on backbone features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hf_finetune.data import Splits
from hf_finetune.data.rows.finding import DRAW_SEED, MOST_NAMED, Section, Severity, Table, percent
from hf_finetune.evaluation.prediction.forward import predict_rows
from hf_finetune.models import Checkpoint
from hf_finetune.tasks.outputs.confident_learning import find_label_errors

MOST_ROWS, FEWEST_ROWS, FOLDS = 5000, 50, 5
_STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # values of inverse regularisation to try
_MANY = 0.05  # share of suspicious rows from which they are a warning,
_SURE = 0.6  # if they are at least this share of the classifier's errors; otherwise the classifier is weak


@dataclass(frozen=True)
class Suspicion:
    """Rows with a suspicious label, the most suspicious first.

    Args:
        rows: row numbers.
        suggested: the more probable class.
        margin: probability of the suggested class minus that of the given one.
        accuracy: of the out-of-fold classifier, against the given labels.
    """

    rows: np.ndarray
    suggested: np.ndarray
    margin: np.ndarray
    accuracy: float


def check_label_noise(
    splits: Splits, checkpoint: Checkpoint, encode: Callable[[Any], Any], collate: Any, batch_size: int
) -> Section:
    """Return the section on mislabelled training rows; ``encode`` turns a split into model inputs."""
    section = Section("Label noise", "label_noise")
    labels = splits.output.truth_of(splits.train) if splits.output.ONE_CLASS else np.zeros(0)
    rows = _usable(section, splits, labels)
    if not len(rows):
        return section
    split = splits.train.select(rows)
    features = backbone_features(checkpoint, encode(split), collate, batch_size)
    found = find_suspicious(features, labels[rows].astype(np.int64))
    majority = np.bincount(labels[rows].astype(np.int64)).max() / len(rows)
    section.facts |= {"rows": len(rows), "out_of_fold_accuracy": found.accuracy, "majority": float(majority)}
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


def _usable(section: Section, splits: Splits, labels: np.ndarray) -> np.ndarray:
    """Return the training rows to use: classes with a row per fold, at most ``MOST_ROWS``, drawn by class."""
    none = np.zeros(0, dtype=np.int64)
    if not splits.output.ONE_CLASS:
        section.sentences.append("Not looked for: rows have no single class.")
        return none
    counts = np.bincount(labels.astype(np.int64), minlength=len(splits.output.names))
    enough = counts >= FOLDS
    rows = np.flatnonzero(enough[labels.astype(np.int64)])
    if len(rows) < FEWEST_ROWS or enough.sum() < 2:
        section.sentences.append(
            f"Not looked for: {FEWEST_ROWS} training rows of two classes with {FOLDS} rows each are needed."
        )
        return none
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
    model = checkpoint.model
    names = [name for stage in checkpoint.stages[:-1] for name in stage.modules]
    last: list[torch.Tensor] = []
    hooks = [model.get_submodule(name).register_forward_hook(_keep_in(last)) for name in names]
    training = model.training
    try:
        return predict_rows(model, rows, collate, batch_size, lambda share: None, predict=partial(_below_head, last))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()


def _below_head(last: list[torch.Tensor], model: Any, inputs: dict[str, Any]) -> np.ndarray:
    """Return the pooled output of the stages below the head for a batch, shape (rows, width)."""
    model(**inputs)
    features: np.ndarray = _pooled(last.pop(), inputs.get("attention_mask")).float().cpu().numpy()
    return features


def _keep_in(last: list[torch.Tensor]) -> Callable[..., None]:
    def hook(module: Any, args: Any, output: Any) -> None:
        leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]
        if leaves and leaves[0].ndim >= 2:
            last[:] = leaves[:1]

    return hook


def _pooled(output: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return (rows, width) from (rows, tokens, width), (rows, channels, height, width) or (rows, width)."""
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    if output.ndim == 3 and mask is not None and mask.shape[1] == output.shape[1]:
        return (output * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return output.mean(dim=1) if output.ndim == 3 else output


def find_suspicious(features: np.ndarray, labels: np.ndarray) -> Suspicion:
    """Return suspicious labels by confident learning with out-of-fold logistic regression.

    Args:
        features: shape (rows, width).
        labels: class ids, shape (rows,), at least one row of each class per fold.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    classes, ids = np.unique(labels, return_inverse=True)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=DRAW_SEED)
    model = _classifier(features, ids, next(folds.split(features, ids)))
    probabilities = cross_val_predict(model, features, ids, cv=folds, method="predict_proba")
    rows, suggested, margin = find_label_errors(probabilities, ids)
    accuracy = float((probabilities.argmax(axis=1) == ids).mean())
    return Suspicion(rows, classes[suggested], margin, accuracy)


def _classifier(features: np.ndarray, ids: np.ndarray, fold: tuple[np.ndarray, np.ndarray]) -> Any:
    """Fit logistic regression with the regularisation that gives the best log-loss on one fold: margins need calibration."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen, unseen = fold
    models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200, tol=1e-3)) for c in _STRENGTHS]
    every = np.arange(ids.max() + 1)
    losses = [
        log_loss(ids[unseen], model.fit(features[seen], ids[seen]).predict_proba(features[unseen]), labels=every)
        for model in models
    ]
    return models[int(np.argmin(losses))]


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
    section.tables.append(Table("Training rows that are most likely mislabelled", columns, rows))
    many = max(_MANY * len(split), _SURE * (1 - found.accuracy) * len(split))
    severity: Severity = "warning" if len(found.rows) > many else "info"
    section.add(
        "label-noise",
        severity,
        f"{len(found.rows):,} of {len(split):,} training rows ({percent(len(found.rows), len(split))}) look like another "
        "class than their label says",
        where="train split",
        rows=[f"{own} ({given}, looks like {other})" for own, given, other, _ in rows],
        fix="look at the first of them: mislabelled rows come first, rows that are hard to tell follow.",
    )
