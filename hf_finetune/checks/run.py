"""Run the checks: first those that need only the rows, then those that need the model."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from hf_finetune.checks.cost import check_cost
from hf_finetune.checks.counts import check_columns, check_counts
from hf_finetune.checks.duplicates import check_duplicates
from hf_finetune.checks.label_noise import check_label_noise
from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.rows.finding import Section
from hf_finetune.strategies import make_plan
from hf_finetune.tasks.task import Inspection, Task


def check_data(config: Config, task: Task, splits: Splits) -> tuple[list[Section], Inspection]:
    """Return the sections that need only the rows, and the inspection with the readable rows."""
    sections = [check_columns(config.data, task.input, splits), check_counts(splits)]
    inspection = task.input.inspect(splits, config.data)
    say("Looking for duplicates.")
    return [*sections, inspection.section, check_duplicates(splits, task.input.rows, inspection)], inspection


def check_model(config: Config, task: Task, inspection: Inspection, half: torch.dtype | None) -> list[Section]:
    """Return the sections that need the checkpoint: suspicious labels and cost; none if nothing can be learned.

    Raises:
        UserError: the checkpoint cannot be loaded, or the strategy does not fit it.
    """
    splits = inspection.splits
    if not _trainable(splits):
        return []
    checkpoint = task.load_model(config, splits.output)
    inspection.add_processor(checkpoint.processor)
    say("Looking for suspicious labels.")
    encode = partial(task.input.encode, processor=checkpoint.processor)
    batch_size = int(config.training.get("per_device_eval_batch_size", 64))
    noise = check_label_noise(splits, checkpoint, encode, task.input.collator(checkpoint.processor), batch_size)
    config, plan = make_plan(config, task, checkpoint, splits)
    say("Timing a few steps.")
    return [noise, check_cost(config, task, splits, checkpoint, plan, half)]


def _trainable(splits: Splits) -> bool:
    """Return whether there are rows of two classes."""
    if not len(splits.train):
        return False
    return not splits.output.ONE_CLASS or bool(np.count_nonzero(splits.class_counts("train")) > 1)
