"""Rows in, clean splits out."""

from hf_finetune.data.load import load_splits
from hf_finetune.data.rows.audit import audit
from hf_finetune.data.splits.splits import Splits
