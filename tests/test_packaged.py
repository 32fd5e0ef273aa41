"""A recipe called from Python gets the flags that the command line would give it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import IntervalStrategy

from hf_finetune import packaged
from hf_finetune.config import parse


@pytest.fixture
def asked(monkeypatch):
    """The configuration that ``fine_tune`` asks the recipe for."""
    monkeypatch.setattr(packaged, "load_recipe", lambda path: lambda argv, dataset: parse(argv))
    return lambda **flags: packaged.fine_tune("text-classification", model_name_or_path="m", **flags)


def test_values_of_python_reach_their_fields(asked):
    config = asked(
        lr_scheduler_kwargs={"num_cycles": 2, "nested": {"on": True}},
        liger_kernel_config={"rope": True},
        text_columns=["title", "the body"],
        report_to=("wandb", "tensorboard"),
        output_dir=Path("runs/a"),
        max_length=None,
        merge_adapter=True,
        bf16=False,
        learning_rate=1e-05,
        max_steps=-1,
        eval_strategy=IntervalStrategy.STEPS,
        label_column="-label",
    )
    assert json.loads(config.training["lr_scheduler_kwargs"]) == {"num_cycles": 2, "nested": {"on": True}}
    assert config.training["liger_kernel_config"] == {"rope": True}
    assert config.data.text_columns == ["title", "the body"]
    assert config.training["report_to"] == ["wandb", "tensorboard"]
    assert config.output_dir == Path("runs/a")
    assert (config.inputs.max_length, "max_length" in config.explicit) == (None, False)
    assert (config.strategy.merge_adapter, config.training["bf16"]) == (True, False)
    assert (config.training["learning_rate"], config.training["max_steps"]) == (1e-05, -1)
    assert (config.training["eval_strategy"], config.data.label_column) == ("steps", "-label")
