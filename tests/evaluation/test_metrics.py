"""What the Trainer gets between epochs, and metrics of the Hub beside those of the output."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from hf_finetune.errors import UserError
from hf_finetune.evaluation.metrics import HubMetric, hub_metric, metric_function, metric_key, metrics_of
from hf_finetune.tasks.outputs import MultiLabel, Regression, SingleLabel

# Six rows of three classes; the predictions are 0 0 1 1 2 0.
LABELS = np.array([0, 0, 0, 1, 2, 2])
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.6, 0.1, 0.3]]
)
THREE = SingleLabel(["a", "b", "c"])


def evaluation(probabilities=PROBABILITIES, labels=LABELS):
    return SimpleNamespace(predictions=np.log(probabilities), label_ids=labels)


def test_the_trainer_gets_all_metrics_but_its_own_loss():
    expected = metrics_of(THREE, np.log(PROBABILITIES), LABELS)
    expected.pop("loss")
    assert metric_function(THREE)(evaluation()) == pytest.approx(expected)
    labels = np.eye(3)[LABELS]
    for output in (MultiLabel(["a", "b", "c"]), Regression(["a", "b", "c"])):
        found = metric_function(output)(SimpleNamespace(predictions=PROBABILITIES, label_ids=labels))
        assert next(iter(output.METRICS)) in found
        assert "loss" not in found


def test_the_function_can_be_called_again_with_other_rows():
    compute = metric_function(THREE, "f1_macro")
    compute(evaluation())
    assert compute(evaluation(np.eye(3)[[0, 1]] + 0.1, np.array([0, 1])))["accuracy"] == 1.0


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
    found = metric_function(THREE, str(folder))(evaluation())
    assert (found["hits"], found["missed"], found["hit_count"]) == (4.0, 2.0, 4.0)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert "confusion" not in found


def test_a_folder_without_a_metric_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        hub_metric(str(tmp_path / "empty"), THREE)


class Averaged:
    """Like the F1 of the Hub: refuses several classes without an average."""

    def compute(self, predictions, references, average="binary"):
        if average == "binary":
            raise ValueError("Target is multiclass but average='binary'. Please choose another average setting.")
        return {"f1": sklearn_metrics.f1_score(references, predictions, average=average)}


def test_a_metric_that_needs_an_average_gets_the_macro_average():
    predicted = PROBABILITIES.argmax(axis=1)
    assert HubMetric("f1", Averaged()).compute(predicted, LABELS) == pytest.approx({"f1": 2 / 3})


def test_the_first_number_bears_the_name_of_the_metric():
    class Several:
        def compute(self, predictions, references):
            return {"table": [1, 2], "score": np.float32(0.5), "other": 2}

    found = HubMetric("owner/my-metric", Several()).compute(np.array([0]), np.array([0]))
    assert found == {"score": 0.5, "other": 2.0, "my-metric": 0.5}


def test_a_metric_that_gives_no_number_is_refused():
    class Table:
        def compute(self, predictions, references):
            return {"confusion_matrix": np.eye(2)}

    with pytest.raises(UserError):
        HubMetric("confusion_matrix", Table()).compute(np.array([0, 1]), np.array([0, 1]))


def test_other_faults_of_a_metric_are_not_hidden():
    class Broken:
        def compute(self, predictions, references):
            raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        HubMetric("broken", Broken()).compute(np.array([0]), np.array([0]))


@pytest.mark.parametrize(
    ("name", "key"),
    [("f1", "f1"), ("owner/metric", "metric"), ("/a/b/metric.py", "metric"), ("./metric/", "metric")],
)
def test_what_a_metric_is_called(name, key):
    assert metric_key(name) == key
