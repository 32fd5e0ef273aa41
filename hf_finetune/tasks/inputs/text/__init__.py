"""One text a row, or a pair of them. The folder is the input: its names are those of the protocol."""

from typing import Any, Literal

from hf_finetune.tasks.inputs.text.encoding import checkpoint_name, collator, encode, load_processor, prepare
from hf_finetune.tasks.inputs.text.pipeline import pipeline_input

__all__ = [
    "call_options", "checkpoint_name", "collator", "encode", "load_processor", "name", "pipeline_input", "prepare", "processor_name",
]  # fmt: skip

name: Literal["text", "image"] = "text"
processor_name: str = "tokenizer"
call_options: dict[str, Any] = {"truncation": True}
