"""Find errors, suspicious rows and high costs in data and plan before training."""

from hf_finetune.checks.report import show_report, write_report
from hf_finetune.checks.run import check_data, check_model
