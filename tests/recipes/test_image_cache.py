"""Where decoded images are kept changes no loss."""

from __future__ import annotations

import json

import pytest

from hf_finetune.packaged import load_recipe, recipe_path

pytestmark = pytest.mark.usefixtures("training_alone")


def losses(folder):
    (state,) = (folder / "checkpoints").glob("*/checkpoint-*/trainer_state.json")
    return [entry["loss"] for entry in json.loads(state.read_text())["log_history"] if "loss" in entry]


def test_losses_are_the_same_with_and_without_kept_images(checkpoints, image_folder, tmp_path):
    main = load_recipe(recipe_path("image-classification"))
    for keep, workers in (("auto", 0), ("off", 0), ("disk", 1)):
        flags = ["--model_name_or_path", checkpoints("mobilenet"), "--dataset_name", image_folder, "--strategy", "full"]
        flags += ["--num_train_epochs", "2", "--per_device_train_batch_size", "16", "--bf16", "false"]
        flags += [
            "--eval_strategy",
            "no",
            "--logging_strategy",
            "steps",
            "--logging_steps",
            "1",
            "--dataloader_num_workers",
            str(workers),
        ]
        main([*flags, "--image_cache", keep, "--output_dir", str(tmp_path / keep)])
    kept = losses(tmp_path / "auto")
    assert len(kept) == 6
    assert losses(tmp_path / "off") == losses(tmp_path / "disk") == kept


def test_losses_of_a_head_on_kept_images_are_the_same(checkpoints, image_folder, tmp_path):
    main = load_recipe(recipe_path("image-classification"))
    for keep in ("auto", "off"):
        flags = ["--model_name_or_path", checkpoints("mobilenet"), "--dataset_name", image_folder, "--strategy", "head"]
        flags += [
            "--num_train_epochs",
            "2",
            "--activation_cache",
            "off",
            "--image_cache",
            keep,
            "--eval_strategy",
            "no",
        ]
        main([*flags, "--output_dir", str(tmp_path / keep)])
    assert losses(tmp_path / "off") == losses(tmp_path / "auto")
