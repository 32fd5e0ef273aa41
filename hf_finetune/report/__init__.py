"""The report of a run: one page that shows what the run's files hold."""

from hf_finetune.report.page import report_page, write_report
