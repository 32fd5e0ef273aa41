"""Every metric of every output is that of scikit-learn and scipy, on rows as they are and on rows repeated by their weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from hf_finetune.evaluation.metrics import score_rows
from hf_finetune.tasks.outputs import MultiLabel, Regression, SingleLabel

NAMES = ["a", "b", "c", "d"]


def single_label(output, raw, labels):
    probabilities = output.probabilities(raw)  # whose rounding decides what ties
    predicted, present = probabilities.argmax(axis=1), np.unique(labels)
    mean = {"labels": present, "zero_division": 0}
    found = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.recall_score(labels, predicted, average="macro", **mean),
        "f1_macro": metrics.f1_score(labels, predicted, average="macro", **mean),
        "f1_weighted": metrics.f1_score(labels, predicted, average="weighted", **mean),
        "precision_macro": metrics.precision_score(labels, predicted, average="macro", **mean),
        "recall_macro": metrics.recall_score(labels, predicted, average="macro", **mean),
        "mcc": metrics.matthews_corrcoef(labels, predicted),
        "loss": metrics.log_loss(labels, probabilities, labels=np.arange(raw.shape[1])),
    }
    if len(present) == raw.shape[1]:
        scores = probabilities[:, 1] if raw.shape[1] == 2 else probabilities
        found["auroc"] = metrics.roc_auc_score(labels, scores, multi_class="ovr")
    return found


def multi_label(output, raw, labels):
    probabilities = output.probabilities(raw)
    chosen = (probabilities >= np.array(output.thresholds)).astype(int)
    zero = {"zero_division": 0}
    found = {
        "average_precision": metrics.average_precision_score(labels, probabilities, average="micro"),
        "f1_micro": metrics.f1_score(labels, chosen, average="micro", **zero),
        "f1_macro": metrics.f1_score(labels, chosen, average="macro", **zero),
        "f1_samples": metrics.f1_score(labels, chosen, average="samples", zero_division=1),
        "precision_micro": metrics.precision_score(labels, chosen, average="micro", **zero),
        "recall_micro": metrics.recall_score(labels, chosen, average="micro", **zero),
        "accuracy": metrics.accuracy_score(labels, chosen),
        "hamming_loss": metrics.hamming_loss(labels, chosen),
        "loss": metrics.log_loss(labels.ravel(), probabilities.ravel(), labels=[0, 1]),
    }
    if labels.any(axis=0).all() and not labels.all(axis=0).any():
        found["auroc"] = metrics.roc_auc_score(labels, probabilities, average="macro")
    return found


def regression(output, raw, labels):
    found = {
        "rmse": metrics.root_mean_squared_error(labels, raw),
        "mae": metrics.mean_absolute_error(labels, raw),
        "mse": metrics.mean_squared_error(labels, raw),
        "loss": metrics.mean_squared_error(labels, raw),
    }
    if np.ptp(labels, axis=0).all():
        found["r2"] = metrics.r2_score(labels, raw)
        if np.ptp(raw, axis=0).all():
            pairs = list(zip(raw.T, labels.T, strict=True))
            found["pearson"] = np.mean([stats.pearsonr(*pair)[0] for pair in pairs])
            found["spearman"] = np.mean([stats.spearmanr(*pair)[0] for pair in pairs])
    return found


def cases():
    """Reference, output, raw outputs and labels; ``coarse`` scores tie, ``rare`` leaves a class without rows or answers."""
    random = np.random.default_rng(0)
    for rows in (7, 40, 300):
        for kind in ("fine", "coarse", "rare"):
            for width in (2, 4):
                raw = random.normal(size=(rows, width)) * 2
                labels = random.integers(0, width, rows)
                several = (random.random((rows, width)) < 0.4).astype(float)
                if kind == "coarse":
                    raw = np.round(raw / 2)
                if kind == "rare":
                    labels[labels == 0] = 1
                    several[:, 0], raw[:, 1] = 0, -9
                names, name = NAMES[:width], f"{rows}-{kind}-{width}"
                yield f"single-{name}", single_label, SingleLabel(names), raw, labels
                yield f"multi-{name}", multi_label, MultiLabel(names, [0.3, 0.5, 0.6, 0.7][:width]), raw, several
        for width in (1, 3):
            truth = random.normal(size=(rows, width)) * 3 + 100
            guess, output = truth + random.normal(size=truth.shape), Regression(NAMES[:width])
            yield f"regression-{rows}-{width}", regression, output, guess, truth
            yield f"regression-{rows}-{width}-ties", regression, output, np.round(guess), np.round(truth)
            yield f"regression-{rows}-{width}-flat", regression, output, np.ones_like(guess), truth
            yield f"regression-{rows}-{width}-constant", regression, output, guess, np.ones_like(truth)


CASES = {name: case for name, *case in cases()}


@pytest.mark.filterwarnings("ignore")  # scikit-learn warns of classes without rows
@pytest.mark.parametrize("name", CASES)
def test_every_metric_is_that_of_the_libraries(name):
    reference, output, raw, truth = CASES[name]
    random = np.random.default_rng(1)
    weights = random.integers(0, 3, size=(5, len(truth)))
    weights[0] = 1
    weights[:, 0] = np.maximum(weights[:, 0], 1)
    statistics = output.statistics(raw, truth)
    found = output.score(statistics, weights)
    assert found.keys() == output.METRICS.keys()
    for index, row_weights in enumerate(weights):
        rows = np.repeat(np.arange(len(truth)), row_weights)
        expected = reference(output, raw[rows], truth[rows])
        defined = {name: values[index] for name, values in found.items() if not np.isnan(values[index])}
        assert defined == pytest.approx(expected, abs=1e-9)
        # The statistics of some rows are those that a mask selects.
        assert score_rows(output, statistics[rows]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in CASES if "-300-" in name])
def test_statistics_count_rows_and_classes(name):
    _, output, raw, truth = CASES[name]
    statistics = output.statistics(raw, truth)
    assert len(statistics) == 300
    assert statistics.size == truth.size
    if output.HAS_CLASSES:
        counts = truth.sum(axis=0) if truth.ndim == 2 else np.bincount(truth, minlength=len(output.names))
        assert statistics.class_rows.tolist() == counts.tolist()
    else:
        assert statistics.class_rows is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in CASES if "regression" not in name])
def test_figures_of_each_class_are_those_of_scikit_learn(name):
    _, output, raw, truth = CASES[name]
    scores = metrics.precision_recall_fscore_support(
        truth, output.decide(raw), labels=np.arange(len(output.names)), average=None, zero_division=0
    )
    found = output.per_label(output.statistics(raw, truth))
    assert list(found) == output.names
    for index, figures in enumerate(found.values()):
        expected = {
            key: column[index] for key, column in zip(("precision", "recall", "f1", "support"), scores, strict=True)
        }
        assert {key: figures[key] for key in expected} == pytest.approx(expected)


@pytest.mark.parametrize("output", [SingleLabel, MultiLabel, Regression])
def test_what_an_output_says_of_its_metrics_holds(output):
    assert output.CLASS_MEANS <= output.SHARES <= output.METRICS.keys()
    assert {*output.CARD_METRICS, *output.HUB_METRICS, output.FLOOR.metric} <= output.METRICS.keys()


def test_a_resample_without_a_class_has_no_area_under_the_curve():
    output, raw, labels = SingleLabel(["a", "b"]), np.array([[0.0, 1], [1, 0], [0, 2]]), np.array([1, 0, 1])
    found = output.score(output.statistics(raw, labels), np.array([[1, 1, 1], [1, 0, 2]]))
    assert found["auroc"][0] == 1
    assert np.isnan(found["auroc"][1])
    assert found["accuracy"].tolist() == [1, 1]
