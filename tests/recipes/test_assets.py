"""The real packaged checkpoints, shortly trained on the real packaged data, beat the majority class."""

from __future__ import annotations

import pytest

from hf_finetune.demo import image_checkpoint, image_data, text_checkpoint, text_data
from hf_finetune.files import cache_dir
from hf_finetune.packaged import fine_tune

pytestmark = pytest.mark.assets


@pytest.mark.slow  # a tenth of the whole suite; the probe below trains on real weights and data too
def test_minilm_learns_the_critics_verdict(tmp_path):
    files = {f"{split}_file": path for split, path in text_data(cache_dir()).items()}
    few = {"max_train_samples": 480, "max_predict_samples": 300, "max_eval_samples": 100, "num_train_epochs": 2}
    flags = {"model_name_or_path": text_checkpoint(cache_dir()), "output_dir": tmp_path, "max_length": 64}
    metrics = fine_tune("text-classification", **flags, **files, **few)
    assert metrics["test"]["accuracy"] > metrics["test"]["majority_accuracy"] + 0.08


def test_a_probe_of_efficientnet_finds_defective_cells(tmp_path):
    few = {"max_train_samples": 240, "max_predict_samples": 200, "max_eval_samples": 60, "num_train_epochs": 6}
    flags = {"model_name_or_path": image_checkpoint(cache_dir()), "output_dir": tmp_path, "strategy": "head"}
    metrics = fine_tune("image-classification", dataset_name=image_data(cache_dir()), image_size=128, **flags, **few)
    assert metrics["test"]["auroc"] > 0.7
