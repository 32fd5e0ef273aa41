"""The output of a saved model is read off its settings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hf_finetune.tasks.outputs import CLASSES_OR_NUMBERS, MultiLabel, Regression, SingleLabel


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (None, SingleLabel(["a", "b"], 1.5)),
        ("single_label_classification", SingleLabel(["a", "b"], 1.5)),
        ("multi_label_classification", MultiLabel(["a", "b"], [0.2, 0.3])),
        ("regression", Regression(["a", "b"])),
    ],
)
def test_a_saved_model_says_what_it_answers(problem, expected):
    tuned = {"thresholds": [0.2, 0.3], "calibration_temperature": 1.5}
    settings = SimpleNamespace(problem_type=problem, id2label={0: "a", 1: "b"}, **tuned)
    assert CLASSES_OR_NUMBERS.of_model(settings) == expected
