"""Bootstrap intervals: known widths, groups, pairs, and what is said where the bootstrap cannot speak."""

from __future__ import annotations

import numpy as np
import pytest

from hf_finetune.evaluation import intervals as module
from hf_finetune.evaluation.intervals import interval_of
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.tasks.outputs import MultiLabel, Regression, SingleLabel

TWO = SingleLabel(["a", "b"])


def intervals(output, raw, labels, *groups, **options):
    return module.intervals(output, output.statistics(raw, labels), *groups, **options)


def difference(output, a, b, labels, *groups, b_output=None, **options):
    statistics = output.statistics(a, labels), (b_output or output).statistics(b, labels)
    return module.difference(output, *statistics, *groups, **options)


def answers(right: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits of two classes that are right where they are told to be."""
    chosen = np.where(right, labels, 1 - labels)
    return np.stack([1.0 - chosen, chosen], axis=1)


def test_accuracy_has_the_interval_of_a_binomial_share():
    labels = np.arange(400) % 2
    right = np.arange(400) < 320  # 80 %, whose standard error is 0.02
    found = intervals(TWO, answers(right, labels), labels)
    assert found["accuracy"] == pytest.approx([0.76, 0.84], abs=0.006)
    assert set(found) == set(metrics_of(TWO, answers(right, labels), labels))
    assert all(low < high for low, high in found.values())
    assert found == intervals(TWO, answers(right, labels), labels)
    assert found != intervals(TWO, answers(right, labels), labels, seed=1)


def test_near_one_the_interval_reaches_further_down_than_up(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 20_000)
    labels = np.arange(100) % 2
    low, high = intervals(TWO, answers(np.arange(100) < 98, labels), labels)["accuracy"]
    # Wilson's score interval of 98 of 100 is 0.930 to 0.9945, a touch wider with Student's t; the percentiles end at 1.
    assert (low, high) == pytest.approx((0.928, 0.9946), abs=0.0015)


def test_few_rows_have_wider_intervals_than_the_bare_percentiles(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 20_000)
    numbers = np.random.default_rng(0).normal(size=(10, 1))
    output = Regression(["x"])
    low, high = intervals(output, numbers, np.zeros((10, 1)))["mae"]
    (drawn,) = module._resampled(output, [output.statistics(numbers, np.zeros((10, 1)))], None, 0)
    # Student's t with 9 degrees of freedom and the variance of n - 1: 2.262 × √(10 / 9) deviations, not 1.96.
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn["mae"], [0.00856, 0.99144])), abs=1e-3)


def test_rows_of_a_group_are_drawn_together():
    labels = np.arange(400) % 2
    groups = np.array([f"patient {i // 20}" for i in range(400)])
    right = np.arange(400) // 20 % 5 > 0  # a patient's rows are all right or all wrong: 20 patients, not 400 rows
    low, high = intervals(TWO, answers(right, labels), labels)["accuracy"]
    grouped_low, grouped_high = intervals(TWO, answers(right, labels), labels, groups)["accuracy"]
    assert (grouped_high - grouped_low) / (high - low) == pytest.approx(np.sqrt(20), rel=0.2)


def test_where_no_row_is_wrong_the_bound_is_that_of_the_binomial():
    labels = np.arange(13) % 2
    found = intervals(TWO, answers(labels >= 0, labels), labels)
    assert found["accuracy"] == pytest.approx([0.025 ** (1 / 13), 1])
    assert found["f1_macro"][0] == pytest.approx(0.025 ** (1 / (4 / (1 / 7 + 1 / 6))))  # classes of 7 and 6 rows
    assert "mcc" not in found  # no share
    groups = np.array(list("aabbccddeeeee"))
    found = intervals(TWO, answers(labels >= 0, labels), labels, groups)
    assert found["accuracy"] == pytest.approx([0.025 ** (1 / 5), 1])
    wrong = intervals(TWO, answers(labels < 0, labels), labels)
    assert wrong["accuracy"] == pytest.approx([0, 1 - 0.025 ** (1 / 13)])


def test_two_rows_of_a_class_say_little_about_it_however_many_the_others_are():
    labels = np.array([1] * 2 + [0] * 998)
    found = intervals(TWO, answers(labels >= 0, labels), labels)
    assert found["accuracy"][0] > 0.99
    assert found["balanced_accuracy"][0] == pytest.approx(0.025 ** (1 / (4 / (1 / 2 + 1 / 998))))
    assert found["balanced_accuracy"][0] < 0.65


def test_one_row_or_group_has_no_interval():
    labels = np.array([0, 1, 1])
    raw = answers(labels > 0, labels)
    assert intervals(TWO, raw[:1], labels[:1]) == {}
    assert intervals(TWO, raw, labels, np.array(["a", "a", "a"])) == {}
    assert difference(TWO, raw, raw, labels, np.array(["a", "a", "a"]), metric="accuracy") is None


def test_metrics_that_are_undefined_have_no_interval():
    three = SingleLabel(["a", "b", "c"])
    random = np.random.default_rng(0)
    raw, labels = random.normal(size=(60, 3)), np.arange(60) % 2
    assert set(intervals(three, raw, labels)) == set(metrics_of(three, raw, labels)) >= {"accuracy"}
    assert "auroc" not in intervals(three, raw, labels)
    labels[0] = 2  # the class is in 63 % of the resamples, and these count
    assert "auroc" in intervals(three, raw, labels)


@pytest.mark.parametrize(
    "output", [MultiLabel(["a", "b"], [0.4, 0.6]), Regression(["x", "y"])], ids=["multi", "numbers"]
)
def test_other_labels_have_an_interval_around_every_metric(output):
    random = np.random.default_rng(0)
    labels = random.normal(size=(300, 2))
    raw = labels + random.normal(size=labels.shape)
    if isinstance(output, MultiLabel):
        labels = (labels > 0.3).astype(float)
    values, found = metrics_of(output, raw, labels), intervals(output, raw, labels)
    assert set(found) == set(values)
    assert all(found[name][0] < value < found[name][1] for name, value in values.items())


def test_chunks_of_resamples_change_nothing(monkeypatch):
    random = np.random.default_rng(0)
    raw, labels = random.normal(size=(50, 2)), random.integers(0, 2, 50)
    monkeypatch.setattr(module, "RESAMPLES", 100)
    whole = intervals(TWO, raw, labels)
    monkeypatch.setattr(module, "_WEIGHTS_AT_ONCE", 50 * 30)
    chunks = intervals(TWO, raw, labels)
    assert all(chunks[name] == pytest.approx(whole[name]) for name in whole)


def test_many_rows_take_fewer_resamples(monkeypatch):
    monkeypatch.setattr(module, "MANY_ROWS", 49)
    labels = np.arange(50) % 2
    drawn = module._resampled(TWO, [TWO.statistics(answers(labels > 0, labels), labels)], None, 0)
    assert len(drawn[0]["accuracy"]) == 200


def test_a_difference_is_paired():
    labels = np.arange(1000) % 2
    a, b = answers(np.arange(1000) < 830, labels), answers(np.arange(1000) < 800, labels)
    found = difference(TWO, a, b, labels, metric="accuracy")
    # 30 rows of 1,000 differ, all in favour of a: its standard error is √(0.03 × 0.97 / 1000) = 0.0054.
    assert found.value == pytest.approx(0.03)
    assert (found.low, found.high) == pytest.approx((0.0194, 0.0406), abs=0.002)
    assert (found.turns, found.units, found.greater_is_better) == (0, 1000, True)
    assert found.p == pytest.approx(2 / 1001)
    turned = difference(TWO, b, a, labels, metric="accuracy")
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_equal_models_are_not_told_apart():
    random = np.random.default_rng(0)
    labels = np.arange(500) % 2
    a, b = (answers(random.random(500) < 0.8, labels) for _ in range(2))
    found = difference(TWO, a, b, labels, metric="f1_macro")
    assert found.low < 0 < found.high
    assert found.p > 0.05


def test_models_that_answer_alike_may_still_differ_on_other_rows():
    labels = np.arange(13) % 2
    found = difference(TWO, answers(labels >= 0, labels), answers(labels >= 0, labels), labels, metric="accuracy")
    unseen = 1 - 0.025 ** (1 / 13)
    assert (found.value, found.low, found.high, found.p) == (0, pytest.approx(-unseen), pytest.approx(unseen), 1)
    best = difference(TWO, answers(labels >= 0, labels), answers(labels < 0, labels), labels, metric="accuracy")
    assert (best.value, best.low, best.high) == (1, pytest.approx(1 - unseen), 1)


def test_models_may_have_thresholds_of_their_own():
    labels = np.array([[1.0], [0.0]] * 50)
    raw = np.where(labels > 0, -1.0, -2.0)  # probabilities of 0.27 and 0.12
    found = difference(MultiLabel(["a"], [0.2]), raw, raw, labels, metric="f1_micro", b_output=MultiLabel(["a"]))
    assert found.value == 1
    assert difference(MultiLabel(["a"]), raw, raw, labels, metric="a metric of the Hub") is None


def test_any_other_metric_is_resampled_row_by_row():
    right = np.random.default_rng(0).random(400) < 0.7
    low, high = interval_of(lambda rows: float(right[rows].mean()), 400)
    assert low < right.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 400), rel=0.2)
    groups = np.repeat(np.arange(20), 20)
    alike = groups % 2 == 0  # whole groups are right or wrong
    wide = interval_of(lambda rows: float(alike[rows].mean()), 400, groups)
    narrow = interval_of(lambda rows: float(alike[rows].mean()), 400)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert interval_of(lambda rows: 1.0, 400) is None
    assert interval_of(lambda rows: float(len(rows)), 1) is None
