"""The name of a store: a hash of everything that its content depends on."""

from __future__ import annotations

import hashlib
import json
import re

import torch

from hf_finetune.activations.cut import Cut
from hf_finetune.models import Stage

_FORMAT = 2  # raised when the format of stores changes
# Settings of a configuration that concern the head, or the origin of the model.
_NOT_THE_BACKBONE = {
    "id2label", "label2id", "num_labels", "num_classes", "label_names", "problem_type", "thresholds",
    "calibration_temperature", "input_columns", "classifier_dropout", "architectures", "auto_map", "head_hidden_size",
    "mlp_head_on", "_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype", "pretrained_cfg",
    "model_type",  # an MLP head changes it; the class identifies the backbone
    "use_cache",  # for text generation; the Trainer turns it off
}  # fmt: skip


def name_store(prefix: str, rows: str, views: str, dtype: torch.dtype, precision: str) -> str:
    """Return the name of a store: a hash of its frozen stages, rows, random views, dtype and precision of computation."""
    parts = [_FORMAT, prefix, rows, views, str(dtype), precision, torch.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def is_store_name(name: str) -> bool:
    """Return whether a name is that of a store."""
    return re.fullmatch("[0-9a-f]{32}", name) is not None


def hash_prefix(cut: Cut, stages: list[Stage], depth: int) -> str:
    """Return a hash of the weights, buffers and settings of the frozen stages, and of the cut."""
    digest = hashlib.sha256()
    settings = cut.model.config.to_dict()
    plain = {key: value for key, value in settings.items() if key not in _NOT_THE_BACKBONE}
    classifier = getattr(cut.model.config, "mlp_head_on", None) or type(cut.model).__name__
    about = [classifier, cut.boundary, cut.cached_shape, cut.tokens, plain]
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    state = dict(cut.model.named_buffers()) | dict(cut.model.named_parameters())
    modules = tuple(f"{name}." for stage in stages[:depth] for name in stage.modules)
    own = {name for stage in stages[:depth] for name in stage.parameters}
    for name in sorted(state):
        if name in own or name.startswith(modules):
            digest.update(name.encode())
            tensor = state[name].detach().cpu().contiguous()
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
