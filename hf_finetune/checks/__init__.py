"""Find errors, suspicious rows and high costs in data and plan before training."""

from hf_finetune.checks.report import show_report, write_report
from hf_finetune.checks.run import check_data, check_model
from hf_finetune.data.rows.finding import Finding, Section

__all__ = ["Finding", "Section", "check_data", "check_model", "show_report", "write_report"]
