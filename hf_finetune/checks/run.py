"""The order of the checks: first what the rows alone tell, then what takes the model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from hf_finetune.checks.cost import check_cost
from hf_finetune.checks.counts import check_columns, check_counts
from hf_finetune.checks.duplicates import check_duplicates
from hf_finetune.checks.label_noise import check_label_noise
from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.strategies import make_plan
from hf_finetune.tasks.inputs.image.checks import Looks, check_images, look_at
from hf_finetune.tasks.inputs.text.checks import check_lengths, check_texts
from hf_finetune.tasks.task import Task


def check_data(config: Config, task: Task, splits: Splits) -> tuple[list[Section], Splits]:
    """What the rows alone tell; and the splits without the images that cannot be read."""
    sections = [check_columns(config.data, splits), check_counts(splits)]
    looks = None
    if task.input.name == "image":
        say("Looking at the images.")
        looks = look_at(splits)
        sections.append(check_images(splits, looks, config.data.on_bad_image))
    else:
        sections.append(check_texts(splits))
    say("Looking for duplicates.")
    sections.append(check_duplicates(splits, looks))
    return sections, splits if looks is None else _readable(splits, looks)


def check_model(
    config: Config, task: Task, splits: Splits, sections: list[Section], half: torch.dtype | None
) -> list[Section]:
    """What takes the checkpoint: lengths in tokens, suspicious labels, and cost. None of it where there is nothing to learn.

    Raises:
        UserError: the checkpoint cannot be loaded, or the strategy does not fit it.
    """
    if not _trainable(splits):
        return []
    checkpoint = task.load_model(config, splits.output)
    if task.input.name == "text":
        say("Counting tokens.")
        check_lengths(next(each for each in sections if each.key == "texts"), splits, checkpoint.processor)
    say("Looking for suspicious labels.")
    encode = partial(task.input.encode, processor=checkpoint.processor)
    batch_size = int(config.training.get("per_device_eval_batch_size", 64))
    noise = check_label_noise(splits, checkpoint, encode, task.input.collator(checkpoint.processor), batch_size)
    config, plan = make_plan(config, task, checkpoint, splits)
    say("Timing a few steps.")
    return [noise, check_cost(config, task, splits, checkpoint, plan, half)]


def _trainable(splits: Splits) -> bool:
    """Whether there are rows of two classes."""
    if not len(splits.train):
        return False
    return not splits.output.ONE_CLASS or bool(np.count_nonzero(splits.class_counts("train")) > 1)


def _readable(splits: Splits, looks: dict[str, Looks]) -> Splits:
    """Without the rows whose images cannot be read; a held-out split that has no other goes with them."""
    kept: dict[str, Any] = {}
    for name, split in splits.items():
        gone = looks[name].rows[~looks[name].readable]
        rows = np.setdiff1d(np.arange(len(split)), gone)
        kept[name] = split.select(rows) if len(rows) or name == "train" else None
    return replace(splits, **kept)
