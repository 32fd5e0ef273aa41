"""One image a row. The folder is the input: its names are those of the protocol."""

from typing import Any, Literal

from hf_finetune.tasks.inputs.image.encoding import checkpoint_name, collator, encode, load_processor, prepare
from hf_finetune.tasks.inputs.image.pipeline import pipeline_input

__all__ = [
    "call_options", "checkpoint_name", "collator", "encode", "load_processor", "name", "pipeline_input", "prepare", "processor_name",
]  # fmt: skip

name: Literal["text", "image"] = "image"
processor_name: str = "image_processor"
call_options: dict[str, Any] = {}
