"""Run the checks: first those that need only the rows, then those that need the model."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from hf_finetune.checks.cost import check_cost
from hf_finetune.checks.duplicates import check_duplicates
from hf_finetune.checks.label_noise import check_label_noise
from hf_finetune.config import Config
from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.rows.columns import LABEL_NAMES
from hf_finetune.data.rows.finding import Section
from hf_finetune.strategies import make_plan
from hf_finetune.tasks.task import Input, Inspection, Task


def check_data(config: Config, task: Task, splits: Splits) -> tuple[list[Section], Inspection]:
    """Return the sections that need only the rows, and the inspection with the readable rows."""
    sections = [check_columns(config.data, task.input, splits), check_counts(splits)]
    inspection = task.input.inspect(splits, config.data)
    say("Looking for duplicates.")
    return [*sections, inspection.section, check_duplicates(splits, task.input.rows, inspection)], inspection


def check_columns(config: DataConfig, input: Input, splits: Splits) -> Section:
    """Return the section on the columns of inputs and labels, and why they were chosen."""
    section = Section("Columns", "columns")
    rows = [(own, input.name, input.why_column(config, own, number)) for number, own in enumerate(splits.inputs)]
    rows += [(own, "label", _why_label(config, own)) for own in splits.label_columns]
    section.table("", ("column", "holds", "why this one"), rows)
    section.facts = {
        "source": splits.source,
        "problem_type": splits.output.NAME,
        "notes": list(splits.notes),
        "columns": [{"column": own, "holds": holds, "why": why} for own, holds, why in rows],
    }
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


def check_model(config: Config, task: Task, inspection: Inspection, half: torch.dtype | None) -> list[Section]:
    """Return the sections that need the checkpoint: suspicious labels and cost; none if nothing can be learned.

    Raises:
        UserError: the checkpoint cannot be loaded, or the strategy does not fit it.
    """
    splits = inspection.splits
    one_class = splits.output.ONE_CLASS and np.count_nonzero(splits.class_counts("train")) < 2
    if not len(splits.train) or one_class:
        return []
    checkpoint = task.load_model(config, splits.output, splits.train)
    inspection.add_processor(checkpoint.processor)
    say("Looking for suspicious labels.")
    encode = partial(task.input.encode, processor=checkpoint.processor)
    batch_size = int(config.training.get("per_device_eval_batch_size", 64))
    noise = check_label_noise(splits, checkpoint, encode, task.input.collator(checkpoint.processor), batch_size)
    config, plan = make_plan(config, task, checkpoint, splits)
    say("Timing a few steps.")
    return [noise, check_cost(config, task, splits, checkpoint, plan, half)]
