"""Verification of the saved model, model card, Hub push and export."""

from hf_finetune.publish.card import write_model_card
from hf_finetune.publish.hub.push import check_hub, push_run
from hf_finetune.publish.verify.verify import verify
