"""The input of a text with a tag for each word. This module implements the protocol ``Input``, as texts do."""

from hf_finetune.tasks.inputs.text import facts
from hf_finetune.tasks.inputs.text.baseline import baseline_features
from hf_finetune.tasks.inputs.text.checks import inspect, why_column
from hf_finetune.tasks.inputs.text.encoding import (
    checkpoint_name,
    content_hash,
    describe_processor,
    load_processor,
    mixer,
    views,
)
from hf_finetune.tasks.inputs.text.sample import longest, odd_rows, pipeline_input, probe
from hf_finetune.tasks.inputs.text.show import onnx_code, preview
from hf_finetune.tasks.inputs.words.encoding import call_options, collator, encode, fingerprint, prepare, shortened
from hf_finetune.tasks.inputs.words.row_input import rows
from hf_finetune.tasks.inputs.words.sample import components, keep_row, row_of, usage_sample, widget

name: str = "text"
processor_name: str = "tokenizer"
decodes: bool = False
piece_rows: int = 4096
baseline_name: str = "tf-idf and {linear}"
