"""The input of one image per row. This module implements the protocol ``Input``."""

from typing import Any

from hf_finetune.tasks.inputs.image import facts
from hf_finetune.tasks.inputs.image.baseline import baseline_features, baseline_name
from hf_finetune.tasks.inputs.image.checks import inspect, why_column
from hf_finetune.tasks.inputs.image.encoding import (
    checkpoint_name,
    collator,
    encode,
    load_processor,
    prepare,
    shortened,
)
from hf_finetune.tasks.inputs.image.fingerprint import describe_processor, fingerprint
from hf_finetune.tasks.inputs.image.preview import content_hash, preview
from hf_finetune.tasks.inputs.image.row_input import rows
from hf_finetune.tasks.inputs.image.sample import keep_row, longest, odd_rows, pipeline_input, probe
from hf_finetune.tasks.inputs.image.serve import components, row_of
from hf_finetune.tasks.inputs.image.snippets import onnx_code, usage_sample, widget
from hf_finetune.tasks.inputs.image.views import mixer, views

__all__ = [
    "baseline_features", "baseline_name", "call_options", "checkpoint_name", "collator", "components", "content_hash",
    "decodes", "describe_processor", "encode", "facts", "fingerprint", "inspect", "keep_row", "load_processor", "longest",
    "mixer", "name", "odd_rows", "onnx_code", "piece_rows", "pipeline_input", "prepare", "preview", "probe", "processor_name",
    "row_of", "rows", "shortened", "usage_sample", "views", "why_column", "widget",
]  # fmt: skip

name: str = "image"
processor_name: str = "image_processor"
call_options: dict[str, Any] = {}
decodes: bool = True
piece_rows: int = 1024
