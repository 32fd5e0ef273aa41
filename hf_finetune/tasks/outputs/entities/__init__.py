"""Entities in texts: schemes of tags, formats of annotation tools, scores, errors."""

from hf_finetune.tasks.outputs.entities.tags import Tags
