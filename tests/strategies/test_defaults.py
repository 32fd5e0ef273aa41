"""The rules behind the defaults."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hf_finetune.strategies.defaults import Facts
from hf_finetune.tasks import get_task


def facts(convolutional=False, width=384, rows=2000, classes=2, strategy="full"):
    return Facts(convolutional, width, rows, classes, strategy=strategy)


def defaults(kind="text", **kwargs):
    return get_task(f"{kind}-classification").defaults(facts(**kwargs))


def values(strategy="full", **kwargs):
    return {name: default.value for name, default in defaults(strategy=strategy, **kwargs).items()}


def test_the_strategy_depends_on_the_input():
    assert values("auto")["strategy"] == "full"
    assert values("auto", kind="image")["strategy"] == "lp_ft"
    assert values("gradual", kind="image")["strategy"] == "gradual"


def test_few_images_per_class_train_only_the_head():
    few = defaults("image", rows=60, classes=12, strategy="auto")["strategy"]
    assert few.value == "head"
    assert "5 rows per class" in few.reason
    assert values("auto", kind="image", rows=240, classes=12)["strategy"] == "lp_ft"


def test_a_model_too_large_for_the_device_gets_adapters():
    def strategy(parameters):
        large = replace(facts(strategy="auto"), parameters=parameters, memory=80 * 10**9)
        return get_task("text-classification").defaults(large)["strategy"]

    assert strategy(7_000_000_000).value == "lora"
    assert "needs 112.0 GB plus activations, and 80.0 GB are free" in strategy(7_000_000_000).reason
    assert strategy(110_000_000).value == "full"


@pytest.mark.parametrize(("width", "rate"), [(384, 1e-4), (768, 5e-5), (1024, 3.75e-5), (32, 3e-4)])
def test_wider_encoders_get_smaller_learning_rates(width, rate):
    assert values(width=width)["learning_rate"] == pytest.approx(rate)


def test_larger_batches_get_larger_learning_rates():
    assert values(rows=9000)["per_device_train_batch_size"] == 16
    assert values(rows=90_000)["per_device_train_batch_size"] == 32
    assert values(rows=90_000)["learning_rate"] == pytest.approx(2e-4)


def test_texts_with_many_classes_get_label_smoothing():
    assert values(classes=77)["label_smoothing_factor"] == 0.1
    assert values(classes=4)["label_smoothing_factor"] == 0.0
    assert values(kind="image", classes=77)["label_smoothing_factor"] == 0.0


@pytest.mark.parametrize(("classes", "epochs"), [(2, 3), (4, 4), (77, 8), (500, 8)])
def test_more_classes_get_more_epochs(classes, epochs):
    assert values(classes=classes)["epochs"] == epochs


@pytest.mark.parametrize(("rows", "epochs"), [(400, 3), (100, 12), (58, 21), (10, 30)])
def test_few_texts_get_enough_steps(rows, epochs):
    assert values(rows=rows)["epochs"] == epochs
    assert values(kind="image", rows=rows)["epochs"] == 6


def test_tags_get_few_epochs_at_a_higher_rate():
    tags = values(kind="token", classes=13)
    assert (tags["epochs"], tags["learning_rate"], tags["head_learning_rate"]) == (3, 2e-4, 2e-4)
    assert values("auto", kind="token")["strategy"] == "freeze:1"
    assert values(kind="token", width=32)["learning_rate"] == 3e-4
    assert values(kind="token", rows=100)["epochs"] == 12
    lora = values("lora", kind="token")
    assert lora["learning_rate"] == lora["head_learning_rate"] == 1e-3


def test_many_rows_get_few_epochs():
    assert values(rows=100_000, classes=77)["epochs"] == 3
    assert values(kind="image", rows=100_000)["epochs"] == 3


def test_the_batch_size_is_divided_among_the_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert values()["per_device_train_batch_size"] == 4
    assert values(kind="image")["per_device_train_batch_size"] == 8
    monkeypatch.setenv("WORLD_SIZE", "64")
    assert values()["per_device_train_batch_size"] == 1


def test_gradual_lowers_the_learning_rate_with_each_stage():
    assert values("gradual")["layer_decay"] == 0.9
    assert values("gradual")["probe_epochs"] == values("lp_ft")["probe_epochs"] == 4
    assert values("full")["layer_decay"] == 1


def test_every_reason_is_a_sentence_without_its_full_stop():
    for strategy in ("full", "head", "lp_ft", "gradual", "lora"):
        for default in defaults("image", convolutional=True, strategy=strategy).values():
            assert not default.reason.endswith(".")
