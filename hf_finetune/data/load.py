"""Load clean splits from a Hub id, files, folders or a DatasetDict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset, IterableDatasetDict

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data.protocols import RowInput, RowOutput, RowOutputs, RowTask
from hf_finetune.data.readers.sources import open_sources
from hf_finetune.data.rows.bad_rows import missing, sound_rows, without
from hf_finetune.data.rows.columns import Columns, clean_split, describe_labels, find_columns
from hf_finetune.data.rows.labels import drop_unlabelled
from hf_finetune.data.rows.row_metadata import add_slices, read_groups
from hf_finetune.data.splits.divide import divide
from hf_finetune.data.splits.splits import SPLIT_SEED, Splits
from hf_finetune.data.splits.stream_splits import stream_splits
from hf_finetune.errors import UserError


def load_splits(config: DataConfig, task: RowTask, dataset: Any = None) -> Splits:
    """Read the rows, find the columns, encode the labels, and hold out the requested splits that were not given.

    Args:
        config: the source of the rows.
        task: the input and the possible outputs.
        dataset: a ``Dataset`` or ``DatasetDict`` to use instead of the source in ``config``; or an ``IterableDataset`` or
            ``IterableDatasetDict``, which implies ``--streaming``.

    Raises:
        UserError: no source, no rows, or rows that cannot be read or do not fit the task.
    """
    rows = task.input.rows
    if isinstance(dataset, (IterableDataset, IterableDatasetDict)):
        config = replace(config, streaming=True)
    notes: list[str] = []
    sources, origin = open_sources(config, rows.cell, dataset, notes)
    if "train" not in sources:
        raise UserError(
            f"there is no training split; found {', '.join(sources) or 'nothing'}",
            where=origin,
            fix="name the training rows, for example with --train_file.",
        )
    if config.streaming:
        return stream_splits(sources, origin, config, rows, task.outputs, notes)
    raw = {name: _limited(source.keep(), name, config, rows) for name, source in sources.items()}
    for name, split in raw.items():
        if len(split) == 0:
            raise UserError(
                "the split has no rows", where=f"{origin}, {name} split", fix="give rows, or leave the split out."
            )
    columns = find_columns(raw["train"], rows, config)
    drop_unlabelled(raw, columns.labels[0], notes)
    output, skipped = _leave_bad_rows_out(raw, rows, task.outputs, columns, config, notes)
    clean = {name: clean_split(split, name, rows, columns, output) for name, split in raw.items()}
    clean = {name: add_slices(split, raw[name], name, config.slice_column or []) for name, split in clean.items()}
    splits, split_table = divide(clean, raw, columns, config, output, notes)
    say(f"{origin}: {rows.describe(columns.inputs)}, {describe_labels(columns, output)}.")
    held_out = splits.get("validation"), splits.get("test")
    return Splits(
        splits["train"], *held_out, output, origin, notes, columns.inputs, skipped, split_table, columns.labels
    )


def _limited(split: Dataset, name: str, config: DataConfig, rows: RowInput) -> Dataset:
    """Return the first rows; of files, which are often sorted by class, random ones with a fixed seed."""
    flags = {"train": "max_train_samples", "validation": "max_eval_samples", "test": "max_predict_samples"}
    limit = getattr(config, flags[name])
    if not limit or limit >= len(split):
        return split
    drawn = np.random.default_rng(SPLIT_SEED).permutation(len(split))[:limit]
    return split.select(np.sort(drawn) if rows.cell.stays_a_file else range(limit))


def load_labelled(config: DataConfig, task: RowTask, output: RowOutput) -> Dataset:
    """Return rows to evaluate a model on, in the form of a split of :func:`load_splits`.

    ``config`` has their source as ``train_file`` or ``train_dir``; ``output`` is that of the model.

    Raises:
        UserError: rows that cannot be read or do not fit the task, or a label that the model does not have.
    """
    rows = task.input.rows
    sources, source = open_sources(config, rows.cell, None, [])
    split = sources["train"].keep()
    if len(split) == 0:
        raise UserError("there are no rows", where=source, fix="give labelled rows.")
    if config.group_column not in split.column_names:  # new rows need no groups
        config = replace(config, group_column=None)
    columns = find_columns(split, rows, config)
    output = output.read_from(columns.labels, config)
    faults = missing(split, "test", rows, columns, config, blank=task.outputs.blank_is_missing(config))
    faults += output.unusable(split) if config.on_bad_row == "skip" else []
    split = without(split, "test", faults, [], [])
    clean = add_slices(clean_split(split, "test", rows, columns, output), split, "test", config.slice_column or [])
    return clean.add_column("group", read_groups(split, "test", columns.group)) if columns.group else clean


def _leave_bad_rows_out(
    raw: dict[str, Dataset],
    rows: RowInput,
    outputs: RowOutputs,
    columns: Columns,
    config: DataConfig,
    notes: list[str],
) -> tuple[Any, list[dict[str, Any]]]:
    """Remove rows without input or usable label from ``raw``, or refuse them; return the output and the skipped rows."""
    blank = outputs.blank_is_missing(config)
    faults = {name: missing(split, name, rows, columns, config, blank=blank) for name, split in raw.items()}
    labelled = raw["train"].select(sound_rows("train", faults["train"])) if faults["train"] else raw["train"]
    output = outputs.find(labelled, columns.labels, config)
    skipped: list[dict[str, Any]] = []
    for name, split in raw.items():
        # Unless they are skipped, unusable labels are refused where labels are encoded.
        unusable = output.unusable(split) if config.on_bad_row == "skip" else []
        raw[name] = without(split, name, faults[name] + unusable, notes, skipped)
    return output, skipped
