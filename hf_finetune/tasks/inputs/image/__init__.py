"""The input of one image per row. This module implements the protocol ``Input``."""

from collections.abc import Callable
from typing import Any

from hf_finetune.tasks.inputs.files import pipeline_input
from hf_finetune.tasks.inputs.image import facts
from hf_finetune.tasks.inputs.image.checks import inspect, why_column
from hf_finetune.tasks.inputs.image.encoding import (
    collator,
    describe_processor,
    encode,
    fingerprint,
    mixer,
    shortened,
    views,
)
from hf_finetune.tasks.inputs.image.processor import checkpoint_name, load_processor, prepare
from hf_finetune.tasks.inputs.image.row_input import rows
from hf_finetune.tasks.inputs.image.sample import call_options, keep_row, longest, odd_rows, probe
from hf_finetune.tasks.inputs.image.show import components, onnx_code, preview, row_of, usage_sample, widget

name: str = "image"
processor_name: str = "image_processor"
decodes: bool = True
piece_rows: int = 1024
baseline_name: str = "{linear} on the untouched backbone"


def baseline_features(parts: dict[str, Any], backbone: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    return backbone()


def content_hash(split: Any) -> str | None:
    return None  # the ids of images are their paths, which identify them
