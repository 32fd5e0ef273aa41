"""Adapters of models of every kind fold into their base: what comes out loads by itself and answers the same."""

from __future__ import annotations

import pytest
import torch

from hf_finetune import fine_tune
from hf_finetune.errors import UserError
from hf_finetune.models import load_artifact
from hf_finetune.publish.hub.contents import merged_model


@pytest.mark.parametrize("name", ["vit", "resnet", pytest.param("timm-vit", marks=pytest.mark.slow)])
def test_image_models(name, checkpoints, image_folder, tmp_path):
    flags = {"strategy": "lora", "num_train_epochs": 1, "output_dir": tmp_path / "run", "image_cache": "off"}
    fine_tune("image-classification", model_name_or_path=checkpoints(name), dataset_name=image_folder, **flags)
    adapter = load_artifact(tmp_path / "run" / "model", "AutoModelForImageClassification")
    size = 160 if name == "timm-vit" else 32
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with merged_model(tmp_path / "run") as folder:
        names = {path.name for path in folder.iterdir()}
        merged = load_artifact(folder, "AutoModelForImageClassification")
    assert not folder.exists()
    assert not any(name.startswith("adapter_") for name in names)
    assert {path.name for path in (tmp_path / "run" / "model").iterdir()} - names <= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    with torch.inference_mode():
        torch.testing.assert_close(merged(pixels).logits, adapter(pixels).logits, atol=1e-4, rtol=1e-4)
    assert merged.config.id2label == {0: "class 1", 1: "class 2", 2: "class 10"}


def test_a_base_that_is_gone(runs, tmp_path):
    import json
    import shutil

    run = shutil.copytree(runs("lora"), tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    path = run / "model" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "/gone/bert"}))
    with pytest.raises(UserError, match="base checkpoint '/gone/bert' cannot be loaded"), merged_model(run):
        pass
