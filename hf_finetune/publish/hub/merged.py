"""An adapter merged into its base for publishing; the run folder is not changed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_finetune.errors import UserError

TOLERANCE = 1e-3  # of the largest logit: merging rounds each weight once


@contextmanager
def merged_model(run: Path) -> Iterator[Path]:
    """Yield a temporary folder with the merged model and its processor.

    Raises:
        UserError: the run has no adapter, its base cannot be loaded, or the merged model predicts differently.
    """
    from hf_finetune.evaluation.prediction.labeller import load_labeller
    from hf_finetune.models import load_artifact, merge

    adapter = run / "model"
    if not (adapter / "adapter_config.json").exists():
        raise UserError(
            "the run has no adapter to merge", where="--merged", fix="remove the flag: the model is already complete."
        )
    labeller = load_labeller(str(run))
    inputs = labeller.task.input.probe(labeller.model, labeller.processor)
    wanted = _logits(labeller.model, inputs)
    with tempfile.TemporaryDirectory(prefix="hf-finetune-merged-") as name:
        folder = Path(name)
        for path in adapter.iterdir():
            if not path.name.startswith("adapter_") and path.suffix != ".safetensors":
                shutil.copy2(path, folder)
        merge(labeller.model).save_pretrained(folder)
        _compare(wanted, _logits(load_artifact(folder, labeller.task.auto_class), inputs))
        yield folder


def _logits(model: Any, inputs: dict[str, Any]) -> Any:
    import torch

    with torch.inference_mode():
        return model.eval()(**inputs).logits


def _compare(wanted: Any, found: Any) -> None:
    """Raise a ``UserError`` if logits differ by more than rounding."""
    difference = float((wanted - found).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(wanted.abs().max())):
        raise UserError(
            f"the merged model's logits differ from the adapter's by {difference:.2g}",
            where="--merged",
            fix="push the adapter as it is, without --merged.",
        )
