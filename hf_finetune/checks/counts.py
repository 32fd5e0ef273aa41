"""Report which columns are read and why, and the rows and labels of every split."""

from __future__ import annotations

from hf_finetune.config.options import DataConfig
from hf_finetune.data import Splits
from hf_finetune.data.rows.columns import LABEL_NAMES
from hf_finetune.data.rows.finding import Section, Table
from hf_finetune.tasks.task import Input


def check_columns(config: DataConfig, input: Input, splits: Splits) -> Section:
    """Return the section on the columns of inputs and labels, and why they were chosen."""
    section = Section("Columns", "columns")
    rows: list[tuple[str, str, str]] = [
        (own, input.name, input.why_column(config, own, number)) for number, own in enumerate(splits.inputs)
    ]
    rows += [(own, "label", _why_label(config, own)) for own in splits.label_columns]
    section.tables.append(Table("", ("column", "holds", "why this one"), rows))
    section.facts = {"source": splits.source, "problem_type": splits.output.NAME, "notes": list(splits.notes)}
    section.facts["columns"] = [{"column": own, "holds": holds, "why": why} for own, holds, why in rows]
    section.sentences = [f"{splits.source}: {splits.output.describe()}.", *splits.notes]
    return section


def _why_label(config: DataConfig, own: str) -> str:
    if config.label_columns:
        return "named by --label_columns"
    if config.label_column:
        return "named by --label_column"
    return "a usual name of labels" if own.strip().lower() in LABEL_NAMES else "the only column of class labels"


def check_counts(splits: Splits) -> Section:
    """Return the section on rows and labels of every split: labels that are missing, rare or look wrong."""
    section = Section("Rows and labels", "counts")
    section.facts["rows"] = {name: len(split) for name, split in splits.items()}
    splits.output.check(section, splits)
    return section
