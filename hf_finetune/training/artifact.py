"""The ``model/`` folder: what from_pretrained and pipeline() load without this package."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hf_finetune.config import Config
from hf_finetune.console import is_main_process, say
from hf_finetune.models import Checkpoint, is_adapter
from hf_finetune.models.checkpoint import save_mlp_head_code
from hf_finetune.tasks.outputs import Output


def save_artifact(trainer: Any, checkpoint: Checkpoint, config: Config, output: Output) -> None:
    """Save weights, configuration and processor to a temporary folder, and rename it to ``model/`` when it is complete.

    The output finishes the model first: a regression model is rescaled from standardised numbers to the labels' units.
    """
    folder = config.output_dir / "model"
    partial = config.output_dir / "model.partial"
    if is_main_process():
        shutil.rmtree(partial, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    output.finish(model)
    if config.strategy.merge_adapter and is_adapter(model):
        checkpoint.model = model = model.merge_and_unload()
        if is_main_process():
            model.save_pretrained(partial)
    else:
        trainer.save_model(str(partial))
    if is_main_process():
        _save_config_and_processor(model, checkpoint.processor, partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    trainer.accelerator.wait_for_everyone()
    say(f"Saved {folder}")


def _save_config_and_processor(model: Any, processor: Any, folder: Path) -> None:
    if is_adapter(model):
        # An adapter is saved without the configuration, which names the labels.
        model.get_base_model().config.save_pretrained(folder)
    else:
        save_mlp_head_code(model, folder)
    if not hasattr(processor, "data_config"):  # timm's processor is saved within config.json
        processor.save_pretrained(folder)
    # A pickle of the arguments, and a generic model card.
    for name in ("training_args.bin", "README.md"):
        (folder / name).unlink(missing_ok=True)
