"""A run costs its user nothing: no earlier model, no file, no token, no checkpoint; and what it says is true."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_finetune.cli.main import main as hf_finetune
from hf_finetune.packaged import load_recipe, recipe_path


@pytest.fixture
def argv(checkpoints, text_files, tmp_path):
    data = [word for split, path in text_files.items() for word in (f"--{split}_file", path)]

    def build(*flags, out="run"):
        fixed = ["--model_name_or_path", checkpoints("bert"), *data, "--output_dir", str(tmp_path / out)]
        return ["train", "text-classification", *fixed, "--num_train_epochs", "1", *flags]

    return build


def test_a_mistake_beside_overwrite_does_not_cost_the_trained_model(argv, tmp_path):
    assert hf_finetune(argv()) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert tmp_path / "run" / "model" / "model.safetensors" in before
    for flags in (["--metric", "acuracy"], ["--fp16"], ["--mixup", "0.2"], ["--strategy", "freeze:9"]):
        assert hf_finetune(argv("--overwrite_output_dir", *flags)) == 2, flags
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before, flags


def test_a_corrected_command_is_not_refused_for_the_folder_of_the_failed_one(argv):
    assert hf_finetune(argv("--metric", "acuracy")) == 2
    assert hf_finetune(argv()) == 0


def test_a_readme_that_is_not_ours_is_kept(argv, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "README.md").write_text("my project")
    hf_finetune(argv())
    assert (tmp_path / "run" / "README.md").read_text() == "my project"


@pytest.mark.parametrize(
    "flags",
    [
        ["--eval_strategy", "no", "--early_stopping_patience", "2"],
        ["--report_to", "wandb"],
        ["--seed", "-1"],
        ["--label_smoothing_factor", "2"],
    ],
)
def test_mistakes_of_training_arguments_are_explained(flags, argv):
    assert hf_finetune(argv(*flags)) == 2


@pytest.mark.parametrize("flags", [["--save_strategy", "no"], ["--save_strategy", "steps", "--save_steps", "3"]])
def test_saving_apart_from_evaluating_is_said(flags, argv, capsys):
    assert hf_finetune(argv(*flags)) == 0
    assert "the last model is kept, not the best one." in capsys.readouterr().out


def test_the_text_recipe_does_not_train_on_file_names(checkpoints, image_folder, tmp_path):
    flags = ["--model_name_or_path", checkpoints("bert"), "--train_dir", str(Path(image_folder, "train"))]
    argv = ["train", "text-classification", *flags, "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1"]
    assert hf_finetune(argv) == 2


@pytest.mark.parametrize(("step", "rate"), [(8, "2e-2")])
def test_a_run_stopped_at_the_end_of_an_epoch_ends_with_the_same_weights(step, rate, argv, tmp_path, monkeypatch):
    """That epoch must still be judged: in an unbroken run it is the one that is kept."""
    from hf_finetune.training import Interrupted, callbacks

    main = load_recipe(recipe_path("text-classification"))
    flags = ["--num_train_epochs", "3", "--per_device_train_batch_size", "8", "--learning_rate", rate]
    flags += ["--metric", "loss", "--bf16", "false"]
    main(argv(*flags, out="whole")[2:])
    original, seen = callbacks.StopOnSignal.on_step_end, [0]

    def on_step_end(self, *args, **kwargs):
        seen[0] += 1
        if seen[0] == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(callbacks.StopOnSignal, "on_step_end", on_step_end)
    with pytest.raises(Interrupted):
        main(argv(*flags, out="stopped")[2:])
    main(argv(*flags, "--resume_from_checkpoint", "auto", out="stopped")[2:])
    whole, resumed = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_the_checkpoint_of_an_interruption_is_not_deleted(argv, tmp_path, monkeypatch):
    """With save_total_limit 1 the Trainer removes the last checkpoint at its end where another is the best."""
    from hf_finetune.training import Interrupted, callbacks

    original, seen = callbacks.StopOnSignal.on_step_end, [0]

    def on_step_end(self, *args, **kwargs):
        seen[0] += 1
        if seen[0] == 13:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(callbacks.StopOnSignal, "on_step_end", on_step_end)
    with pytest.raises(Interrupted, match="interrupted by SIGTERM"):
        load_recipe(recipe_path("text-classification"))(
            argv("--num_train_epochs", "3", "--per_device_train_batch_size", "8")[2:]
        )
    assert "checkpoint-13" in {path.name for path in (tmp_path / "run" / "checkpoints" / "1-full").iterdir()}


def test_a_checkpoint_that_was_half_written_is_passed_over(tmp_path):
    """A kill during saving leaves a folder without trainer_state.json, which is written last."""
    from hf_finetune.config import parse
    from hf_finetune.training.resume import find_resume

    for name in ("checkpoint-5", "checkpoint-7"):
        (tmp_path / "1-full" / name).mkdir(parents=True)
    (tmp_path / "1-full" / "checkpoint-5" / "trainer_state.json").write_text("{}")
    config = parse(["--model_name_or_path", "m", "--resume_from_checkpoint", "auto"])
    assert find_resume(config, [tmp_path / "1-full"]) == (0, str(tmp_path / "1-full" / "checkpoint-5"))


def test_a_model_with_remote_code_is_judged(checkpoints, text_files, tmp_path, argv):
    folder = tmp_path / "remote"
    shutil.copytree(checkpoints("bert"), folder)
    (folder / "my_model.py").write_text(
        "from transformers import BertConfig, BertForSequenceClassification\n"
        "class MyConfig(BertConfig):\n    model_type = 'my_bert'\n"
        "class MyModel(BertForSequenceClassification):\n    config_class = MyConfig\n"
    )
    settings = json.loads((folder / "config.json").read_text()) | {"model_type": "my_bert"}
    settings["auto_map"] = {
        "AutoConfig": "my_model.MyConfig",
        "AutoModelForSequenceClassification": "my_model.MyModel",
    }
    (folder / "config.json").write_text(json.dumps(settings))
    assert hf_finetune(argv("--model_name_or_path", str(folder), "--trust_remote_code")) == 0
    assert (tmp_path / "run" / "metrics.json").exists()


def test_predicting_with_an_adapter_whose_base_is_gone_is_a_users_mistake(checkpoints, text_files, tmp_path, argv):
    base = tmp_path / "base"
    shutil.copytree(checkpoints("bert"), base)
    assert hf_finetune(argv("--model_name_or_path", str(base), "--strategy", "lora")) == 0
    shutil.rmtree(base)
    assert hf_finetune(["predict", str(tmp_path / "run"), text_files["test"], "--output", str(tmp_path / "o.csv")]) == 2


def test_a_row_without_a_image_is_named(tmp_path):
    from datasets import Dataset, Features, Image, Value

    from hf_finetune.data.rows.audit import audit_files
    from hf_finetune.errors import UserError
    from hf_finetune.tasks.inputs import image

    features = Features({"id": Value("string"), "image": Image(decode=False)})
    rows = Dataset.from_dict({"id": ["a"], "image": [None]}, features=features)
    with pytest.raises(UserError, match="row a"):
        audit_files(rows, image.rows, "train split")


def test_images_can_be_sent_to_worker_processes_that_are_not_forked(checkpoints):
    """The default start method of Python 3.14 is forkserver: --dataloader_num_workers pickles the data set."""
    from hf_finetune.tasks.inputs import image as task

    pickle.dumps(task.encode(None, task.load_processor(checkpoints("vit"))))


def test_a_saved_data_set_is_left_as_it_was(checkpoints, text_files, tmp_path):
    from datasets import load_dataset

    load_dataset("csv", data_files=text_files["train"], split="train").save_to_disk(tmp_path / "data")
    before = {path.name for path in (tmp_path / "data").iterdir()}
    flags = ["--model_name_or_path", checkpoints("bert"), "--dataset_name", str(tmp_path / "data")]
    argv = ["train", "text-classification", *flags, "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1"]
    assert hf_finetune(argv) == 0
    assert {path.name for path in (tmp_path / "data").iterdir()} == before


def test_no_folder_of_the_users_gets_into_the_card(checkpoints, image_folder, tmp_path):
    root = tmp_path / "my own images"
    shutil.copytree(image_folder, root)
    (root / "train" / "class 1" / "broken one.png").write_bytes(b"no image")
    argv = [
        "train",
        "image-classification",
        "--model_name_or_path",
        checkpoints("timm-resnet"),
        "--on_bad_image",
        "skip",
    ]
    argv += ["--dataset_name", str(root), "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1"]
    assert hf_finetune([*argv, "--strategy", "head"]) == 0
    card = (tmp_path / "run" / "README.md").read_text()
    assert "class 1/broken one.png" in card
    assert str(tmp_path) not in card


def test_a_token_reaches_the_launcher_in_its_environment_alone(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execve", lambda program, argv, environment: started.append((program, argv, environment)))
    flags = ["--accelerate_config", "cpu", "--num_processes", "2", "--hub_token", "hf_SECRET"]
    flags += ["--model_name_or_path", "x", "--train_file", "x.csv"]
    assert hf_finetune(["train", "text-classification", *flags]) == 0
    ((program, argv, environment),) = started
    assert [program, *argv[1:5]] == [argv[0], "-m", "accelerate.commands.accelerate_cli", "launch", "--quiet"]
    assert argv[-2:] == ["--train_file", "x.csv"]
    assert "hf_SECRET" not in " ".join(argv)
    assert environment["HF_TOKEN"] == "hf_SECRET"


@pytest.mark.slow
def test_the_launcher_prints_no_token(tmp_path):
    """In one process ``accelerate launch`` raises CalledProcessError, whose text is the whole command."""
    (tmp_path / "one.yaml").write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nuse_cpu: true\nnum_machines: 1\n"
        "num_processes: 1\nmachine_rank: 0\nmixed_precision: 'no'\n"
    )
    flags = ["--accelerate_config", str(tmp_path / "one.yaml"), "--model_name_or_path", "x", "--train_file", "no.csv"]
    command = [sys.executable, "-m", "hf_finetune", "train", "text-classification", *flags]
    done = subprocess.run(
        [*command, "--push_to_hub", "--hub_token", "hf_SECRET"], capture_output=True, text=True, check=False
    )
    assert "hf_SECRET" not in done.stdout + done.stderr
    assert done.returncode == 1  # the launcher's; it hands no other on
    assert done.stderr.splitlines() == ["error: no.csv: the file does not exist", "fix: check the path."]


@pytest.mark.parametrize(
    ("argv", "resumed"),
    [
        (["r.py", "--overwrite_output_dir", "true"], "r.py --resume_from_checkpoint auto"),
        (["r.py", "--resume_from_checkpoint=auto"], "r.py --resume_from_checkpoint auto"),
    ],
)
def test_the_command_that_goes_on_parses(argv, resumed, monkeypatch):
    from hf_finetune.cli.status import _resume_command

    monkeypatch.setattr("sys.argv", argv)
    assert _resume_command() == resumed


def test_the_snippet_of_the_card_takes_long_texts(argv, python, tmp_path):
    """pipeline() cuts nothing unless it is told: texts above the positions of the model end in a RuntimeError."""
    import re

    assert hf_finetune(argv()) == 0
    snippet = re.search(r"```python\n(.*?)```", (tmp_path / "run" / "README.md").read_text(), re.S).group(1)
    code = snippet.replace('model="run"', f'model="{tmp_path}/run/model"').replace("Some text.", "film " * 300)
    done = python(["-c", code])
    assert done.returncode == 0, done.stderr[-500:]
