"""Checkpoints loaded with a new head, the stages of a model, and adapters."""

from hf_finetune.models.adapters import add_lora, is_adapter, plain_name, stage_lookup
from hf_finetune.models.checkpoint import (
    Checkpoint,
    load_artifact,
    load_checkpoint,
    load_preprocessing,
    load_settings,
    load_weights,
    logit_layer,
    rescale_head,
    set_head_bias,
)
from hf_finetune.models.stages import Stage, find_stage, read_stages, trunk_depth
