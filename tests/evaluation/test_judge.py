"""What is said of a model's answers: headline, verdict, confusions, top losses, likely label errors, slices."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from hf_finetune.evaluation.baseline import Baseline
from hf_finetune.evaluation.judge import Judged, judge, verdict
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.tasks.inputs import image as image_input
from hf_finetune.tasks.inputs import text
from hf_finetune.tasks.outputs import MultiLabel, Regression, SingleLabel

NAMES = ["a", "b", "c"]


def one_class(rows=200, right=0.8, seed=0, **columns):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, rows)
    answers = np.where(random.random(rows) < right, labels, (labels + 1) % 3)
    logits = np.eye(3)[answers] * 4 + random.normal(0, 0.1, (rows, 3))
    split = Dataset.from_dict(
        {"id": [f"r{i}" for i in range(rows)], "text": [f"text {i}" for i in range(rows)], "label": labels} | columns
    )
    return Judged(split, SingleLabel(NAMES), logits, labels, text)


def judged(answers, metric="accuracy", baseline=None):
    return judge(answers, metrics_of(answers.output, answers.raw, answers.truth), metric, baseline)


def test_the_headline_has_an_interval_a_floor_and_a_verdict():
    answers = one_class()
    found = judged(answers)
    headline = found["headline"]
    assert headline["value"] == np.mean(answers.raw.argmax(axis=1) == answers.truth)
    low, high = headline["interval"]
    assert low < headline["value"] < high
    # A binomial share of 200 rows near 0.8 has a standard error of 0.028.
    assert high - low == pytest.approx(2 * 1.96 * 0.028, rel=0.2)
    assert headline["floor"] == {"name": "majority_accuracy", "value": np.bincount(answers.truth).max() / 200}
    assert headline["verdict"] == f"It beats a constant prediction ({headline['floor']['value']:.3f})."
    assert found["rows"] == 200
    assert {each["name"] for each in found["metrics"]} == set(metrics_of(answers.output, answers.raw, answers.truth))
    assert all(each["interval"] for each in found["metrics"])


@pytest.mark.parametrize(
    ("own", "simple", "said"),
    [(0.9, 0.6, "It beats the baseline, simple ("), (0.8, 0.8, "does not beat"), (0.5, 0.9, "It is worse than")],
)
def test_the_verdict_names_the_baseline(own, simple, said):
    answers, other = one_class(right=own), one_class(right=simple, seed=0)
    assert (answers.truth == other.truth).all()
    found = judged(answers, baseline=Baseline("simple", SingleLabel(NAMES), other.raw))
    headline = found["headline"]
    assert said in headline["verdict"]
    low, high = headline["baseline"]["difference_interval"]
    assert low <= headline["baseline"]["difference"] <= high
    assert headline["baseline"]["difference"] == pytest.approx(headline["value"] - headline["baseline"]["value"])
    accuracy = next(each for each in found["metrics"] if each["name"] == "accuracy")
    assert accuracy["baseline"] == headline["baseline"]["value"]


def test_less_is_better_of_errors():
    simple = {"name": "simple", "value": 2.0, "difference": -1.0, "difference_interval": [-1.2, -0.8]}
    headline = {
        "metric": "rmse",
        "floor": {"name": "mean_rmse", "value": 3.0},
        "interval": [0.9, 1.1],
        "baseline": simple,
    }
    assert verdict(headline, greater=False).startswith("It beats the baseline, simple (difference in rmse -1.000")
    assert verdict(headline, greater=True).startswith("It does not beat a constant prediction (3.000)")


def test_a_model_that_knows_nothing_is_told_so():
    answers = one_class(right=0.33)
    assert judged(answers)["headline"]["verdict"].startswith("It does not beat a constant prediction")


def test_top_losses_are_wrong_rows_the_surest_first():
    answers = one_class()
    found = judged(answers)["top_losses"]
    assert len(found) == 24
    assert all(row["label"] != row["prediction"] for row in found)
    losses = [row["loss"] for row in found]
    assert losses == sorted(losses, reverse=True)
    first = int(found[0]["id"][1:])
    assert found[0]["text"] == f"text {first}"
    assert found[0]["label"] == NAMES[answers.truth[first]]
    expected = answers.output.row_losses(answers.raw, answers.truth)
    wrong = answers.raw.argmax(axis=1) != answers.truth
    assert losses[0] == pytest.approx(expected[wrong].max())


def test_images_are_shown_small_and_turned(tmp_path):
    image = Image.new("RGB", (640, 320), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "a.jpg"
    image.save(file, exif=exif)
    split = Dataset.from_dict({"id": ["x"], "image": [{"path": str(file), "bytes": None}], "label": [0]})
    found = judged(Judged(split, SingleLabel(NAMES), np.array([[0.0, 5.0, 0.0]]), np.array([0]), image_input))
    address = found["top_losses"][0]["image"]
    shown = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))))
    assert shown.size == (80, 160)


def test_a_label_that_the_model_speaks_against_is_named():
    answers = one_class(right=1.0)
    answers.truth[7] = (answers.truth[7] + 1) % 3
    found = judged(answers)["label_errors"]
    assert [row["id"] for row in found] == ["r7"]
    assert found[0]["suggested"] == NAMES[answers.raw[7].argmax()]


def test_slices_have_metrics_and_intervals_of_their_own():
    answers = one_class(400, **{"slice: source": ["web", "book"] * 200})
    answers.raw[::2] = np.eye(3)[answers.truth[::2]] * 5
    (found,) = judged(answers)["slices"]
    assert found["column"] == "source"
    values = {each["value"]: each for each in found["values"]}
    assert values["web"]["metrics"]["accuracy"] == 1.0
    assert values["web"]["rows"] == values["book"]["rows"] == 200
    book = values["book"]
    expected = np.mean(answers.raw[1::2].argmax(axis=1) == answers.truth[1::2])
    assert book["metrics"]["accuracy"] == expected
    assert book["intervals"]["accuracy"][0] < expected < book["intervals"]["accuracy"][1]


def test_rare_values_of_a_column_are_taken_together():
    cells = ["often"] * 300 + [f"v{i % 50}" for i in range(100)]
    (found,) = judged(one_class(400, **{"slice: x": cells}))["slices"]
    assert len(found["values"]) == 31
    assert found["values"][-1]["value"] == "(21 others)"
    assert found["values"][-1]["rows"] == 42


def test_groups_widen_the_interval():
    # Rows of a patient are all right or all wrong: 20 patients tell as much as 20 rows.
    groups = np.repeat(np.arange(20), 10)
    answers = one_class(200, group=[str(g) for g in groups])
    wrong = groups % 4 == 0
    answers.raw = np.eye(3)[np.where(wrong, (answers.truth + 1) % 3, answers.truth)] * 4
    grouped = judged(answers)["headline"]["interval"]
    alone = judged(Judged(answers.split.remove_columns("group"), answers.output, answers.raw, answers.truth, text))
    narrow = alone["headline"]["interval"]
    assert grouped[1] - grouped[0] > 2 * (narrow[1] - narrow[0])


def test_several_classes_and_numbers_have_parts_of_their_own():
    random = np.random.default_rng(0)
    truth = (random.random((80, 2)) < 0.4).astype(float)
    split = Dataset.from_dict({"id": [str(i) for i in range(80)], "text": ["t"] * 80})
    several = Judged(
        split, MultiLabel(["a", "b"], [0.5, 0.5]), truth * 2 - 1 + random.normal(0, 1, truth.shape), truth, text
    )
    found = judged(several, "f1_micro")
    assert "confusion" not in found
    assert found["calibration"]["before"]["curve"]
    assert found["calibration"]["after"] is None
    assert isinstance(found["top_losses"][0]["label"], list)
    labels = random.normal(size=(80, 1))
    numbers = Judged(split, Regression(["y"]), labels + random.normal(0, 0.1, labels.shape), labels, text)
    found = judged(numbers, "rmse")
    assert "calibration" not in found
    assert found["numbers"][0]["labels"] == labels[:, 0].tolist()
    assert found["top_losses"][0]["probability"] is None
    errors = np.abs(numbers.raw - labels)[:, 0]
    assert found["top_losses"][0]["id"] == str(errors.argmax())
