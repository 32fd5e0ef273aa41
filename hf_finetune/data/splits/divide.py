"""Split the given rows into train, validation and test: stratified, by groups, time or folds, or as in a split file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from hf_finetune.config.options import DataConfig
from hf_finetune.console import first_few, say_and_note, warn_and_note
from hf_finetune.data.protocols import RowOutput
from hf_finetune.data.rows.columns import Columns
from hf_finetune.data.rows.row_metadata import read_groups, read_times
from hf_finetune.data.splits.folds import default_share, fold_of, groups_out, latest, stratified_out
from hf_finetune.data.splits.split_file import UNUSED, read_split_file, split_table
from hf_finetune.data.splits.splits import SPLIT_SEED
from hf_finetune.errors import UserError


@dataclass
class _Rows:
    """The values by which training rows are split: labels, and numbers of groups and times if there are such columns."""

    labels: np.ndarray
    groups: np.ndarray | None
    times: np.ndarray | None
    columns: Columns
    output: RowOutput


def divide(
    given: dict[str, Dataset],
    raw: dict[str, Dataset],
    columns: Columns,
    config: DataConfig,
    output: RowOutput,
    notes: list[str],
) -> tuple[dict[str, Dataset], pa.Table]:
    """Return train, validation and test rows, and a table with the split of each row.

    Held-out rows keep the order of their file. With a group column, the splits have the column ``group``. ``given`` and ``raw``
    are original split → rows: clean, and with all of the user's columns. Each decision is printed and noted.

    Raises:
        UserError: too few rows or groups, an unreadable group or time, or a split file of other rows.
    """
    if columns.group:
        given = {
            name: split.add_column("group", read_groups(raw[name], name, columns.group))
            for name, split in given.items()
        }
    if config.splits_file:
        belongs = read_split_file(Path(config.splits_file), given)
        say_and_note(f"The splits are those of {Path(config.splits_file).name}.", notes)
    else:
        train = given["train"]
        groups = pd.factorize(np.asarray(train["group"][:], dtype=object))[0] if columns.group else None
        times = read_times(raw["train"], columns.time) if columns.time else None
        belongs = _decide(given, _Rows(output.truth_of(train), groups, times, columns, output), config, notes)
    splits = _take(given, belongs)
    if columns.group:
        _tell_shared_groups(splits, columns.group, notes)
    return splits, split_table(given, belongs)


def _decide(given: dict[str, Dataset], rows: _Rows, config: DataConfig, notes: list[str]) -> dict[str, np.ndarray]:
    """Return original split → new split of each row: test rows are held out first, then validation rows."""
    belongs = {name: np.full(len(split), name, dtype="<U10") for name, split in given.items()}
    train = belongs["train"]
    if config.num_folds and config.fold:
        if "test" in belongs:
            say_and_note(
                "The test split that was given is not used: a fold of the training rows takes its place.", notes
            )
            belongs["test"][:] = UNUSED
        out = np.flatnonzero(fold_of(rows.output.strata(rows.labels), rows.groups, config.num_folds) == config.fold - 1)
        how = _describe(rows, np.arange(len(train)), out)
        say_and_note(
            f"Fold {config.fold} of {config.num_folds} is the test split: {len(out)} of {len(train)} rows, {how}.",
            notes,
        )
        train[out] = "test"
    elif config.test_split and "test" in belongs:
        say_and_note("A test split was given: --test_split is not used.", notes)
    elif config.test_split:
        _hold_out(rows, train, config.test_split, "test", notes)
    share = config.validation_split
    if share is None:
        share = default_share(int((train == "train").sum()))
    if share and "validation" not in belongs:
        _hold_out(rows, train, share, "validation", notes)
    return belongs


def _hold_out(rows: _Rows, belongs: np.ndarray, share: float, what: str, notes: list[str]) -> None:
    """Assign a share of the training rows to another split, drawn with a fixed seed; print and note their number.

    Raises:
        UserError: there are too few rows or groups.
    """
    random = np.random.default_rng(SPLIT_SEED)
    among = np.flatnonzero(belongs == "train")
    classes = rows.output.strata(rows.labels[among])
    if rows.times is not None:
        out = latest(rows.times[among], share)
        why = f"all {len(among)} training rows are of the same moment"
        where, other = f"column {rows.columns.time!r}", "another column"
    elif rows.groups is not None:
        groups = np.unique(rows.groups[among], return_inverse=True)[1]
        out = groups_out(classes, groups, share, random, keep_classes=rows.output.HAS_CLASSES)
        why = "every group of the training rows is needed there: without it a class, or all, would have no training row"
        where, other = f"column {rows.columns.group!r}", "another column"
    else:
        out = stratified_out(classes, share, random)
        why = f"{len(among)} training rows, one of each class, are too few"
        where, other = "the training rows", "more rows"
    if not out.any():
        give_up = "--validation_split 0 to train without one" if what == "validation" else "leave --test_split out"
        fix = f"give a {what} split, {other}, or {give_up}."
        raise UserError(f"{why}; no {what} split can be held out", where=where, fix=fix)
    held = among[out]
    belongs[held] = what
    aim = " for testing" if what == "test" else ""
    how = _describe(rows, among, held)
    say_and_note(
        f"No {what} split was given: {len(held)} of {len(among)} training rows are held out{aim}, {how}.", notes
    )


def _describe(rows: _Rows, among: np.ndarray, held: np.ndarray) -> str:
    """Return in words how the held-out rows were chosen among others."""
    if rows.times is not None:
        first: Any = rows.times[held].min()
        moment = isinstance(first, np.datetime64)
        shown = pd.Timestamp(first).isoformat().removesuffix("T00:00:00") if moment else f"{first:.15g}"
        return f"the latest by column {rows.columns.time!r}, from {shown} on"
    if rows.groups is not None:
        some, all_ = (len(np.unique(rows.groups[part])) for part in (held, among))
        return (
            f"{some} of {all_} groups of column {rows.columns.group!r}, stratified by label as far as whole groups allow "
            f"(seed {SPLIT_SEED})"
        )
    return f"stratified by label (seed {SPLIT_SEED})"


def _take(given: dict[str, Dataset], belongs: dict[str, np.ndarray]) -> dict[str, Dataset]:
    """Return the rows of each split in their original order."""
    taken = {}
    for name in ("train", "validation", "test"):
        here = {source: belongs[source] == name for source in given}
        parts = [
            given[source] if mask.all() else given[source].select(np.flatnonzero(mask))
            for source, mask in here.items()
            if mask.any()
        ]
        if parts:
            taken[name] = parts[0] if len(parts) == 1 else concatenate_datasets(parts)
    return taken


def _tell_shared_groups(splits: dict[str, Dataset], column: str, notes: list[str]) -> None:
    """Warn of groups that given splits share with the training rows: their metrics are then too good."""
    train = set(splits["train"]["group"][:])
    for name in ("validation", "test"):
        shared = sorted(train & set(splits[name]["group"][:])) if name in splits else []
        if shared:
            what = "1 group" if len(shared) == 1 else f"{len(shared)} groups"
            are = "is" if len(shared) == 1 else "are"
            warn_and_note(
                f"{what} of column {column!r} {are} in the training and the {name} rows: {first_few(shared)}.", notes
            )
