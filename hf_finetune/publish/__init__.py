"""Model card and Hub push."""

from hf_finetune.publish.card import write_model_card
from hf_finetune.publish.hub import check_hub, push_folder, push_run

__all__ = ["check_hub", "push_folder", "push_run", "write_model_card"]
