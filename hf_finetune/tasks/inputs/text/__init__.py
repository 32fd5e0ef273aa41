"""The input of one text per row, or a pair of texts. This module implements the protocol ``Input``."""

from hf_finetune.tasks.inputs.text import facts
from hf_finetune.tasks.inputs.text.baseline import baseline_features
from hf_finetune.tasks.inputs.text.checks import inspect, why_column
from hf_finetune.tasks.inputs.text.encoding import (
    checkpoint_name,
    collator,
    content_hash,
    describe_processor,
    encode,
    fingerprint,
    load_processor,
    mixer,
    prepare,
    views,
)
from hf_finetune.tasks.inputs.text.long_texts import shortened
from hf_finetune.tasks.inputs.text.row_input import rows
from hf_finetune.tasks.inputs.text.sample import call_options, keep_row, longest, odd_rows, pipeline_input, probe
from hf_finetune.tasks.inputs.text.show import components, onnx_code, preview, row_of, usage_sample, widget

name: str = "text"
processor_name: str = "tokenizer"
decodes: bool = False
piece_rows: int = 4096
baseline_name: str = "tf-idf and {linear}"
