"""Metrics have the values that are computed by hand and by scikit-learn, and need no network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs.metrics import (
    BUILT_IN,
    ClassificationMetrics,
    classification_metrics,
    hub_metric_value,
    load_hub_metric,
    majority_share,
    metric_key,
    per_class,
    softmax,
)
from hf_finetune.tasks.outputs.targets import SingleLabel, metric_function

# Six rows of three classes; the predictions are 0 0 1 1 2 0.
LABELS = np.array([0, 0, 0, 1, 2, 2])
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.6, 0.1, 0.3]]
)


@pytest.fixture(scope="module")
def random_case():
    random = np.random.default_rng(0)
    return softmax(random.normal(size=(200, 4))), random.integers(0, 4, 200)


def test_values_computed_by_hand():
    found = classification_metrics(PROBABILITIES, LABELS)
    assert found["accuracy"] == pytest.approx(4 / 6)
    # Precision: 2/3, 1/2, 1; recall: 2/3, 1, 1/2; F1: 2/3, 2/3, 2/3.
    assert found["precision_macro"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["recall_macro"] == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert found["balanced_accuracy"] == found["recall_macro"]
    assert found["f1_macro"] == pytest.approx(2 / 3)
    assert found["f1_weighted"] == pytest.approx(2 / 3)


def test_values_of_scikit_learn(random_case):
    probabilities, labels = random_case
    predicted = probabilities.argmax(axis=1)
    assert classification_metrics(probabilities, labels) == pytest.approx(
        {
            "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
            "f1_macro": sklearn_metrics.f1_score(labels, predicted, average="macro"),
            "f1_weighted": sklearn_metrics.f1_score(labels, predicted, average="weighted"),
            "precision_macro": sklearn_metrics.precision_score(labels, predicted, average="macro"),
            "recall_macro": sklearn_metrics.recall_score(labels, predicted, average="macro"),
            "mcc": sklearn_metrics.matthews_corrcoef(labels, predicted),
            "auroc": sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr"),
        }
    )


def test_perfect_predictions_have_1_everywhere():
    found = classification_metrics(np.eye(3)[LABELS], LABELS)
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_area_of_two_classes_computed_by_hand():
    # Scores of class 1: 0.1 and 0.6 for the rows of class 0, 0.5 and 0.9 for those of class 1: 3 of 4 pairs in order.
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.1, 0.9]])
    assert classification_metrics(probabilities, np.array([0, 0, 1, 1]))["auroc"] == pytest.approx(0.75)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 0, 1], [2] * 6], ids=["two of three", "one of three"])
def test_area_is_left_out_where_a_class_is_absent(labels):
    found = classification_metrics(PROBABILITIES, np.array(labels))
    assert "auroc" not in found
    assert set(found) == set(BUILT_IN) - {"auroc", "loss"}
    assert all(np.isfinite(value) for value in found.values())


def test_a_class_that_is_only_predicted_does_not_enter_the_macro_averages():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.eye(3)[[0, 0, 1, 2]]
    found = classification_metrics(probabilities, labels)
    assert found["recall_macro"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["f1_macro"] == pytest.approx((1 + 2 / 3) / 2)


def test_all_values_are_plain_numbers():
    assert {type(value) for value in classification_metrics(PROBABILITIES, LABELS).values()} == {float}


def test_scores_of_each_class():
    found = per_class(PROBABILITIES, LABELS, ["a", "b", "c"])
    assert found["a"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3})
    assert found["b"] == pytest.approx({"precision": 1 / 2, "recall": 1, "f1": 2 / 3, "support": 1})
    assert found["c"] == pytest.approx({"precision": 1, "recall": 1 / 2, "f1": 2 / 3, "support": 2})


def test_a_class_without_rows_has_zeros():
    found = per_class(np.eye(3)[[0, 1]], np.array([0, 1]), ["a", "b", "c"])
    assert found["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert list(found) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("labels", "share"), [([0, 1, 1, 2], 0.5), ([0, 0, 0], 1.0), ([3, 3, 1], 2 / 3), ([0, 1], 0.5)]
)
def test_the_majority_share_is_that_of_the_most_frequent_class(labels, share):
    assert majority_share(np.array(labels)) == pytest.approx(share)


def test_probabilities_of_logits():
    found = softmax(np.array([[0.0, np.log(3.0)], [1e4, 1e4], [-1e4, 1e4]]))
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]])


def test_as_an_evaluate_module_it_gives_the_same(random_case):
    probabilities, labels = random_case
    module = ClassificationMetrics(keep_in_memory=True)
    found = module.compute(predictions=probabilities, references=labels)
    assert found == pytest.approx(classification_metrics(probabilities, labels), abs=1e-6)


def test_as_an_evaluate_module_it_takes_batches(random_case):
    probabilities, labels = random_case
    module = ClassificationMetrics(keep_in_memory=True)
    for start in range(0, 200, 64):
        module.add_batch(predictions=probabilities[start : start + 64], references=labels[start : start + 64])
    assert module.compute()["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == labels).mean())


# The Trainer's function, and metrics of the Hub


def evaluation(probabilities=PROBABILITIES, labels=LABELS):
    return SimpleNamespace(predictions=np.log(probabilities), label_ids=labels)


def test_the_trainer_gets_all_built_in_metrics_of_logits():
    compute = metric_function(SingleLabel(["a", "b", "c"]))
    assert compute(evaluation()) == pytest.approx(classification_metrics(PROBABILITIES, LABELS), abs=1e-6)


def test_the_function_can_be_called_again_with_other_rows():
    compute = metric_function(SingleLabel(["a", "b", "c"]), "f1_macro")
    compute(evaluation())
    assert compute(evaluation(np.eye(2)[[0, 1]] + 0.1, np.array([0, 1])))["accuracy"] == 1.0


def test_a_metric_that_the_hub_cannot_give_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        metric_function(SingleLabel(["a", "b"]), "no_such_metric_anywhere")
    assert caught.value.what.startswith("'no_such_metric_anywhere' is none of the built-in metrics (accuracy, ")
    assert caught.value.where == "--metric"


METRIC = """
import datasets
import evaluate

class Module(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}),
        )

    def _compute(self, predictions, references):
        hits = sum(p == r for p, r in zip(predictions, references))
        return {"hits": hits, "confusion": [[1, 2], [3, 4]], "missed": len(references) - hits}
"""


def test_a_metric_in_a_local_folder_is_computed_beside_the_built_in_ones(tmp_path):
    folder = tmp_path / "hit_count"
    folder.mkdir()
    (folder / "hit_count.py").write_text(METRIC)
    found = metric_function(SingleLabel(["a", "b", "c"]), str(folder))(evaluation())
    assert (found["hits"], found["missed"], found["hit_count"]) == (4.0, 2.0, 4.0)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert "confusion" not in found


def test_a_folder_without_a_metric_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        load_hub_metric(str(tmp_path / "empty"))


class Averaged:
    """Like the F1 of the Hub: refuses several classes without an average."""

    def compute(self, predictions, references, average="binary"):
        if average == "binary":
            raise ValueError("Target is multiclass but average='binary'. Please choose another average setting.")
        return {"f1": sklearn_metrics.f1_score(references, predictions, average=average)}


def test_a_metric_that_needs_an_average_gets_the_macro_average():
    predicted = PROBABILITIES.argmax(axis=1)
    assert hub_metric_value(Averaged(), "f1", predicted, LABELS) == pytest.approx({"f1": 2 / 3})


def test_the_first_number_bears_the_name_of_the_metric():
    class Several:
        def compute(self, predictions, references):
            return {"table": [1, 2], "score": np.float32(0.5), "other": 2}

    found = hub_metric_value(Several(), "owner/my-metric", np.array([0]), np.array([0]))
    assert found == {"score": 0.5, "other": 2.0, "my-metric": 0.5}


def test_a_metric_that_gives_no_number_is_refused():
    class Table:
        def compute(self, predictions, references):
            return {"confusion_matrix": np.eye(2)}

    with pytest.raises(UserError):
        hub_metric_value(Table(), "confusion_matrix", np.array([0, 1]), np.array([0, 1]))


def test_other_faults_of_a_metric_are_not_hidden():
    class Broken:
        def compute(self, predictions, references):
            raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        hub_metric_value(Broken(), "broken", np.array([0]), np.array([0]))


@pytest.mark.parametrize(
    ("name", "key"),
    [("f1", "f1"), ("owner/metric", "metric"), ("/a/b/metric.py", "metric"), ("./metric/", "metric")],
)
def test_what_a_metric_is_called(name, key):
    assert metric_key(name) == key
