"""The input of one text per row, or a pair of texts. This module implements the protocol ``Input``."""

from typing import Any

from hf_finetune.tasks.inputs.text import facts
from hf_finetune.tasks.inputs.text.baseline import baseline_features, baseline_name
from hf_finetune.tasks.inputs.text.checks import inspect, why_column
from hf_finetune.tasks.inputs.text.encoding import (
    checkpoint_name,
    collator,
    encode,
    load_processor,
    mixer,
    prepare,
    views,
)
from hf_finetune.tasks.inputs.text.fingerprint import describe_processor, fingerprint
from hf_finetune.tasks.inputs.text.long_texts import shortened
from hf_finetune.tasks.inputs.text.preview import content_hash, preview
from hf_finetune.tasks.inputs.text.row_input import rows
from hf_finetune.tasks.inputs.text.sample import keep_row, longest, odd_rows, pipeline_input, probe
from hf_finetune.tasks.inputs.text.serve import components, row_of
from hf_finetune.tasks.inputs.text.snippets import onnx_code, usage_sample, widget

__all__ = [
    "baseline_features", "baseline_name", "call_options", "checkpoint_name", "collator", "components", "content_hash",
    "decodes", "describe_processor", "encode", "facts", "fingerprint", "inspect", "keep_row", "load_processor", "longest",
    "mixer", "name", "odd_rows", "onnx_code", "piece_rows", "pipeline_input", "prepare", "preview", "probe", "processor_name",
    "row_of", "rows", "shortened", "usage_sample", "views", "why_column", "widget",
]  # fmt: skip

name: str = "text"
processor_name: str = "tokenizer"
call_options: dict[str, Any] = {"truncation": True}
decodes: bool = False
piece_rows: int = 4096
