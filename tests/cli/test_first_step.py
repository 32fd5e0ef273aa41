"""What a run imports until its first step: nothing that it does not use."""

from __future__ import annotations

import subprocess
import sys

# transformers itself imports peft, torchvision and Pillow where they are installed, and datasets imports pandas.
UNUSED = (
    "sklearn", "timm", "matplotlib", "evaluate", "scipy.stats", "imagehash", "onnx", "onnxruntime", "gradio", "optuna",
    "tensorboard", "requests", "aiohttp", "pytest",
)  # fmt: skip
PROBE = """
import os, sys
from hf_finetune.training import callbacks

def stop(*_, **__):
    with open(sys.argv[1], "w") as file:
        file.write("\\n".join(sys.modules))
    os._exit(0)

callbacks.StopOnSignal.on_step_end = stop
from hf_finetune.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def test_a_text_run_imports_nothing_that_it_does_not_use(checkpoints, text_files, tmp_path):
    run = ["train", "text-classification", "--model_name_or_path", checkpoints("bert"), "--train_file"]
    run += [text_files["train"], "--output_dir", str(tmp_path / "run"), "--activation_cache", "off"]
    subprocess.run([sys.executable, "-c", PROBE, str(tmp_path / "modules"), *run], check=True, capture_output=True)
    modules = (tmp_path / "modules").read_text().splitlines()
    assert "torch" in modules
    assert [name for name in UNUSED if name in modules] == []
