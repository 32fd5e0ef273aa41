"""Training from activations that were computed once is the training that would have been without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_finetune.packaged import fine_tune

TEXT, IMAGE = "text-classification", "image-classification"
CASES = [
    (TEXT, "bert", "head"),
    (TEXT, "bert", "freeze:1"),
    (TEXT, "bert", "freeze:embeddings"),
    (TEXT, "bert", "lp_ft"),
    (TEXT, "modernbert", "freeze:1"),
    (TEXT, "deberta", "freeze:1"),
    (IMAGE, "resnet", "head"),
    (IMAGE, "resnet", "freeze:1"),
    (IMAGE, "resnet", "lp_ft"),
    (IMAGE, "vit", "head"),
    (IMAGE, "vit", "freeze:1"),
    (IMAGE, "vit", "lp_ft"),
    (IMAGE, "timm-resnet", "head"),
    (IMAGE, "timm-resnet", "freeze:layer3"),
    (IMAGE, "timm-resnet", "lp_ft"),
    (IMAGE, "timm-efficientnet", "freeze:2"),
]


def run(task: str, model: str, strategy: str, folder: Path, data: dict[str, str], cache: str, **flags) -> dict:
    """Losses of every step and the weights that were saved; three batches of unequal size an epoch."""
    from safetensors.torch import load_file

    given = {"augmentation": "none"} if task == IMAGE else {}
    given |= {"learning_rate": 1e-3, "num_train_epochs": 2, "logging_steps": 1, "logging_strategy": "steps"}
    given |= {"bf16": False, "per_device_train_batch_size": 20, "save_total_limit": 5} | flags
    fine_tune(
        task,
        model_name_or_path=model,
        output_dir=folder,
        strategy=strategy,
        activation_cache=cache,
        activation_cache_dir=folder / "activations",
        **data,
        **given,
    )
    return {"losses": losses(folder), "weights": load_file(folder / "model" / "model.safetensors")}


def losses(folder: Path) -> list[float]:
    """Of all steps of the last phase, as its last checkpoint tells them."""
    states = sorted(folder.glob("checkpoints/*/checkpoint-*/trainer_state.json"), key=lambda p: (p.parts[-3], int(p.parts[-2].split("-")[1])))
    history = json.loads(states[-1].read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def data_of(task: str, text_files: dict[str, str], image_folder: str) -> dict[str, str]:
    return {f"{s}_file": f for s, f in text_files.items()} if task == TEXT else {"dataset_name": image_folder}


def assert_same(one: dict, other: dict, bound: float) -> None:
    assert one["losses"] == pytest.approx(other["losses"], rel=bound)
    assert len(one["losses"]) > 4
    for name, weight in one["weights"].items():
        scale = float(weight.abs().max())
        assert float((weight.float() - other["weights"][name].float()).abs().max()) <= bound * max(scale, 1.0), name


@pytest.mark.parametrize(("task", "model", "strategy"), CASES)
def test_cached_and_uncached_training_are_the_same(
    task, model, strategy, checkpoints, text_files, image_folder, tmp_path, capsys
):
    data = data_of(task, text_files, image_folder)
    plain = run(task, checkpoints(model), strategy, tmp_path / "off", data, "off")
    assert "Activation cache" not in capsys.readouterr().out
    kept = run(task, checkpoints(model), strategy, tmp_path / "on", data, "on")
    assert "Activation cache: on" in capsys.readouterr().out
    assert_same(kept, plain, 1e-5)
