"""The input of one recording per row. This module implements the protocol ``Input``."""

from hf_finetune.tasks.inputs.audio import facts
from hf_finetune.tasks.inputs.audio.baseline import baseline_features
from hf_finetune.tasks.inputs.audio.checks import inspect, why_column
from hf_finetune.tasks.inputs.audio.encoding import (
    checkpoint_name,
    collator,
    content_hash,
    describe_processor,
    encode,
    fingerprint,
    load_processor,
    mixer,
    prepare,
    shortened,
    views,
)
from hf_finetune.tasks.inputs.audio.row_input import rows
from hf_finetune.tasks.inputs.audio.sample import call_options, keep_row, longest, odd_rows, probe
from hf_finetune.tasks.inputs.audio.show import components, onnx_code, preview, row_of, usage_sample, widget
from hf_finetune.tasks.inputs.files import pipeline_input

name: str = "audio"
processor_name: str = "feature_extractor"
decodes: bool = False
piece_rows: int = 1024
baseline_name: str = "{linear} on log-mel statistics"
