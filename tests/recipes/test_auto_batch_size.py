"""A run that is short of memory takes the steps of one that is not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_finetune.packaged import load_recipe, recipe_path
from hf_finetune.training import Interrupted

pytestmark = pytest.mark.usefixtures("training_alone")

REPOSITORY = Path(__file__).parents[2]

# Run by each of two processes; the second has less memory than the first.
IN_ONE_OF_TWO = """
import os, sys, torch
from transformers import BertForSequenceClassification as Model
forward = Model.forward
def short(self, input_ids, **kwargs):
    if self.training and len(input_ids) > 2 and os.environ["RANK"] == "1":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
    return forward(self, input_ids, **kwargs)
Model.forward = short
sys.path.insert(0, "recipes")
import text_classification
text_classification.main()
"""


@pytest.fixture
def memory_for(monkeypatch):
    """Let the model train on at most so many rows at once; returns the numbers of rows that were too many."""
    from transformers import BertForSequenceClassification

    original = BertForSequenceClassification.forward
    refused: list[int] = []

    def limit(rows):
        refused.clear()

        def forward(self, input_ids, **kwargs):
            if self.training and len(input_ids) > rows:
                refused.append(len(input_ids))
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return original(self, input_ids, **kwargs)

        monkeypatch.setattr(BertForSequenceClassification, "forward", forward)
        return refused

    return limit


def flags_of(checkpoint, text_files, output, *extra):
    data = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]
    fixed = ["--num_train_epochs", "2", "--learning_rate", "1e-3", "--bf16", "false", "--save_total_limit", "9"]
    every_step = ["--logging_strategy", "steps", "--logging_steps", "1", "--activation_cache", "off"]
    return ["--model_name_or_path", checkpoint, *data, *fixed, *every_step, "--output_dir", str(output), *extra]


def losses(run):
    states = [json.loads(path.read_text()) for path in run.glob("checkpoints/*-full/checkpoint-*/trainer_state.json")]
    log = max(states, key=lambda state: state["global_step"])["log_history"]
    return [entry["loss"] for entry in log if "loss" in entry]


def weights(run):
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("asked", "capacity", "refused"),
    [(("15", "1"), 5, [15, 8]), pytest.param(("8", "2"), 4, [8], marks=pytest.mark.slow)],
)
def test_steps_and_weights_are_those_of_a_run_with_enough_memory(
    asked, capacity, refused, checkpoints, text_files, tmp_path, memory_for
):
    main, model = load_recipe(recipe_path("text-classification")), checkpoints("bert-without-dropout")
    size = ["--per_device_train_batch_size", asked[0], "--gradient_accumulation_steps", asked[1]]
    main(flags_of(model, text_files, tmp_path / "enough", *size))
    found = memory_for(capacity)
    main(flags_of(model, text_files, tmp_path / "short", *size, "--auto_find_batch_size"))
    assert found == refused
    assert len(losses(tmp_path / "enough")) == len(losses(tmp_path / "short"))
    assert losses(tmp_path / "short") == pytest.approx(losses(tmp_path / "enough"), rel=1e-3)
    enough, short = weights(tmp_path / "enough"), weights(tmp_path / "short")
    assert max(float((enough[name] - short[name]).abs().max()) for name in enough) < 1e-4


@pytest.mark.parametrize("step", [pytest.param(3, marks=pytest.mark.slow), 7])
def test_a_resumed_run_goes_on_with_what_was_found(step, checkpoints, text_files, tmp_path, memory_for, monkeypatch):
    from hf_finetune.training import callbacks

    main, model = load_recipe(recipe_path("text-classification")), checkpoints("bert")
    flags = ["--per_device_train_batch_size", "16", "--auto_find_batch_size"]
    memory_for(5)
    main(flags_of(model, text_files, tmp_path / "whole", *flags))
    original = callbacks.StopOnSignal.on_step_end

    def stop(self, args, state, control, **kwargs):
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, args, state, control, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.StopOnSignal, "on_step_end", stop)
        with pytest.raises(Interrupted):
            main(flags_of(model, text_files, tmp_path / "stopped", *flags))
    found = memory_for(5)
    main(flags_of(model, text_files, tmp_path / "stopped", *flags, "--resume_from_checkpoint", "auto"))
    assert found == []
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_the_next_phase_starts_from_what_was_found(checkpoints, text_files, tmp_path, memory_for):
    main = load_recipe(recipe_path("text-classification"))
    found = memory_for(4)
    flags = ["--strategy", "lp_ft", "--per_device_train_batch_size", "16", "--auto_find_batch_size"]
    main(flags_of(checkpoints("bert"), text_files, tmp_path, *flags))
    assert found == [16, 8]
    assert (tmp_path / "checkpoints" / "1-head" / "finished" / "rows_at_once.json").read_text() == "4"


def test_all_processes_divide_their_batches_when_one_must(python, checkpoints, text_files, tmp_path):
    model = checkpoints("bert-without-dropout")
    whole = ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2"]
    load_recipe(recipe_path("text-classification"))(flags_of(model, text_files, tmp_path / "one", *whole))
    (tmp_path / "short.py").write_text(IN_ONE_OF_TWO)
    flags = ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2", "--auto_find_batch_size"]
    argv = [str(tmp_path / "short.py"), *flags_of(model, text_files, tmp_path / "two", *flags)]
    done = python(argv, cwd=REPOSITORY, processes=2, alone=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Out of memory with 4 rows at once: 2 from now on.") == 1
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4


def test_sharded_weights_are_refused(checkpoints, text_files, tmp_path, monkeypatch):
    from hf_finetune.config import parse
    from hf_finetune.errors import UserError
    from hf_finetune.strategies import Phase
    from hf_finetune.training.arguments import training_arguments

    config = parse(flags_of("x", text_files, tmp_path, "--auto_find_batch_size"), program="test")
    phase = Phase("full", frozenset(), 1e-3, 1e-3, 1.0, 1.0)
    assert not training_arguments(config, phase, tmp_path, {"accuracy": True}, validates=True).auto_find_batch_size
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="cannot be split"):
        training_arguments(config, phase, tmp_path, {"accuracy": True}, validates=True)
