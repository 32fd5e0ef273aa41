"""Make clean splits of a stream: training rows stay in their source, held-out rows are read into memory."""

from __future__ import annotations

import heapq
import time
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say, say_and_note
from hf_finetune.data.protocols import RowInput, RowOutputs
from hf_finetune.data.readers.source import Source
from hf_finetune.data.rows.bad_rows import is_missing, missing, refuse_rows
from hf_finetune.data.rows.columns import Columns, clean_split, describe_labels, find_columns, refuse_missing_columns
from hf_finetune.data.rows.labels import drop_unlabelled
from hf_finetune.data.splits.folds import default_share, stratified_out
from hf_finetune.data.splits.splits import SPLIT_SEED, Splits, label_cells
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError

MOST_LABELS = 1_000_000  # more different values cannot be labels
REACH = 20  # held-out rows are drawn from the first REACH times as many rows, if these are representative


def stream_splits(
    sources: dict[str, Source],
    origin: str,
    config: DataConfig,
    rows: RowInput,
    outputs: RowOutputs,
    notes: list[str],
) -> Splits:
    """Return the splits: find the columns, count the labels in one pass, and read validation and test rows.

    Raises:
        UserError: rows that cannot be read or do not fit the task.
    """
    _refuse_flags(config)
    for source in sources.values():
        if source.announce:
            source.announce(source.schema)
    train = sources["train"]
    train.limit = config.max_train_samples
    columns = find_columns(train, rows, config)
    for name, source in sources.items():
        _check_columns(source, columns, rows, f"{name} split")
    began = time.perf_counter()
    codes, distinct = count_labels(train, columns.labels)
    blank = outputs.blank_is_missing(config)
    for column in columns.labels:
        bad = is_missing(distinct, column, blank=blank)[codes]
        refuse_rows(bad, "label", f"{train.name}, column {column!r}", "fill the labels in, or remove these rows.")
    # Frequent labels occur three times, so as not to look like ids.
    some = np.repeat(np.arange(len(distinct)), np.minimum(np.bincount(codes), 3))
    output = outputs.find(Dataset.from_dict(distinct[some], distinct.features), columns.labels, config)
    cells = label_cells(output.encode(distinct, "train"))
    say(
        f"{origin} as a stream: {len(codes):,} rows, {rows.describe(columns.inputs)}, {describe_labels(columns, output)}, "
        f"counted in {time.perf_counter() - began:.1f} s. Training rows are read anew every epoch and mixed "
        f"{rows.block_rows:,} at a time; neither images nor activations of them are kept."
    )
    if output.ONE_CLASS:
        warn_of_runs(cells[codes], rows.block_rows, notes)
    limits = {
        "validation": config.max_eval_samples or rows.most_judging,
        "test": config.max_predict_samples or rows.most_judging,
    }
    raw = {name: draw(sources[name], limit, name, notes) for name, limit in limits.items() if name in sources}
    drop_unlabelled(raw, columns.labels[0], notes)
    held_out = np.array([], dtype=np.int64)
    if "validation" not in raw and config.validation_split != 0:
        groups = np.unique(output.strata(cells), return_inverse=True)[1]
        held_out = choose_held_out(groups[codes], config.validation_split, limits["validation"], notes)
        raw["validation"] = pick(train, held_out)
    for name, split in raw.items():
        missing(split, name, rows, columns, config, blank=blank)
    judging = {name: clean_split(split, name, rows, columns, output) for name, split in raw.items()}
    stream = Stream(train, rows, columns.inputs, codes, cells, held_out, config.on_bad(rows.cell.column))
    both = (judging.get("validation"), judging.get("test"))
    return Splits(stream, *both, output, origin, notes, columns.inputs, label_columns=columns.labels)


def _refuse_flags(config: DataConfig) -> None:
    """Refuse options that need all rows in memory."""
    unfit = ("group_column", "time_column", "slice_column", "test_split", "num_folds", "splits_file")
    asked = [flag for flag in unfit if getattr(config, flag)] + ["on_bad_row"] * (config.on_bad_row == "skip")
    if asked:
        raise UserError(
            "this needs all rows at once, and a stream reads one after the other",
            where=f"--{asked[0]}",
            fix="leave it out, or train without --streaming.",
        )


def count_labels(source: Source, columns: list[str]) -> tuple[np.ndarray, Dataset]:
    """Count the labels in one pass over the label columns.

    Returns:
        The label index of every row in the smallest possible dtype, shape (rows,); and the different labels in order of
        appearance, as rows with these columns.

    Raises:
        UserError: no rows, or too many different values for labels.
    """
    known: dict[str, int] = {}
    distinct: list[dict[str, Any]] = []
    parts: list[np.ndarray] = []
    for table in source.blocks(columns, 50_000):
        local, rows = _distinct_rows(table)
        numbers = np.empty(len(rows), dtype=np.int32)
        for index, row in enumerate(rows):
            numbers[index] = known.setdefault(repr(list(row.values())), len(known))
            if numbers[index] == len(distinct):
                distinct.append(row)
        parts.append(numbers[local].astype(np.min_scalar_type(len(distinct))))
        if len(distinct) > MOST_LABELS:
            raise UserError(
                f"there are more than {MOST_LABELS:,} different labels: they look like ids or free text",
                where=f"{source.name}, column {columns[0]!r}",
                fix="name the label column with --label_column.",
            )
    if not parts:
        raise UserError("the split has no rows", where=source.name, fix="give rows.")
    features = Features({name: source.features[name] for name in columns})
    return np.concatenate(parts), Dataset.from_list(distinct, features=features)


def _distinct_rows(table: pa.Table) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return the index of each row among the different rows of a table, and these rows."""
    if table.num_columns > 1 or pa.types.is_nested(table.schema.types[0]):
        keys: dict[str, int] = {}
        rows = table.to_pylist()
        local = np.array([keys.setdefault(repr(row), len(keys)) for row in rows])
        return local, [rows[index] for index in np.unique(local, return_index=True)[1]]
    encoded = table.column(0).combine_chunks().dictionary_encode(null_encoding="encode")
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.indices.to_numpy(), [{table.column_names[0]: value} for value in encoded.dictionary.to_pylist()]


def _check_columns(source: Source, columns: Columns, rows: RowInput, where: str) -> None:
    refuse_missing_columns(source, columns, where)
    rows.refuse_other_types(source, columns.inputs, where)
    for column in columns.labels:
        if "binary" in getattr(source.features[column], "dtype", ""):
            raise UserError(
                "the column holds bytes, not labels",
                where=f"{where}, column {column!r}",
                fix="in tar shards keep the label of a sample in NAME.cls, as a number.",
            )


def draw(source: Source, limit: int, name: str, notes: list[str]) -> Dataset:
    """Return at most ``limit`` rows of a split, drawn with a fixed seed."""
    random = np.random.default_rng(SPLIT_SEED)
    drawn: list[tuple[float, int, dict[str, Any]]] = []
    count = 0
    for table in source.blocks(source.column_names, 1_000):
        for index, rank in enumerate(random.random(len(table))):
            if len(drawn) < limit:
                heapq.heappush(drawn, (-rank, -(count + index), _row(table, index)))
            elif -rank > drawn[0][0]:
                heapq.heapreplace(drawn, (-rank, -(count + index), _row(table, index)))
        count += len(table)
    if not drawn:
        raise UserError("the split has no rows", where=source.name, fix="give rows, or leave the split out.")
    if count > limit:
        flag = "--max_predict_samples" if name == "test" else "--max_eval_samples"
        say_and_note(
            f"{limit:,} of {count:,} rows were drawn from the {name} split ({flag} names another number).", notes
        )
    return _with_ids({-number: row for _, number, row in sorted(drawn, key=lambda item: -item[1])}, source)


def pick(source: Source, numbers: np.ndarray) -> Dataset:
    """Return the rows with these ascending indices; stop reading after the last one."""
    rows: dict[int, dict[str, Any]] = {}
    first = 0
    for table in source.blocks(source.column_names, 1_000):
        here = numbers[(numbers >= first) & (numbers < first + len(table))]
        rows |= {number: _row(table, number - first) for number in here.tolist()}
        first += len(table)
        if len(rows) == len(numbers):
            break
    return _with_ids(rows, source)


def _row(table: pa.Table, index: int) -> dict[str, Any]:
    return table.slice(index, 1).to_pylist()[0]


def _with_ids(rows: dict[int, dict[str, Any]], source: Source) -> Dataset:
    split = Dataset.from_list(list(rows.values()), features=source.features)
    return split if "id" in split.column_names else split.add_column("id", [str(number) for number in rows])


def choose_held_out(groups: np.ndarray, share: float | None, most: int, notes: list[str]) -> np.ndarray:
    """Return ascending indices of at most ``most`` training rows to hold out, stratified by group with a fixed seed.

    They are among the first rows if these are representative, so that reading them takes no full pass.

    Raises:
        UserError: no class has two rows.
    """
    share = default_share(len(groups)) if share is None else share
    rows = len(groups)
    wanted = min(share, most / rows) * rows
    reach = int(max(REACH * wanted, wanted / share))
    if reach < rows:
        here, whole = (np.bincount(part, minlength=groups.max() + 1) / len(part) for part in (groups[:reach], groups))
        groups = groups[:reach] if np.abs(here - whole).sum() / 2 < 0.1 else groups
    out = np.flatnonzero(stratified_out(groups, wanted / len(groups), np.random.default_rng(SPLIT_SEED)))
    if not len(out):
        raise UserError(
            "no class has two training rows: too few to hold a validation split out",
            where="the training rows",
            fix="give a validation split, more rows, or --validation_split 0 to train without one.",
        )
    say_and_note(
        f"No validation split was given: {len(out):,} of {rows:,} training rows are held out, stratified by label "
        f"(seed {SPLIT_SEED}).",
        notes,
    )
    return out


def warn_of_runs(labels: np.ndarray, block: int, notes: list[str]) -> None:
    """Warn of rows sorted by class: shuffling within blocks does not mix them, so training sees one class at a time."""
    if len(labels) <= block:
        return
    classes = int(labels.max()) + 1
    whole = np.bincount(labels, minlength=classes) / len(labels)
    parts = [labels[start : start + block] for start in range(0, len(labels) - block + 1, block)]
    alike = [np.square(np.unique(part, return_counts=True)[1] / block).sum() - 1 / block for part in parts]
    excess = (np.mean(alike) - np.square(whole).sum()) / max(1e-9, 1 - np.square(whole).sum())
    if excess > 0.05:
        say_and_note(
            f"Warning: the classes stand in runs of more than {block:,} rows, and a stream mixes no more than that: "
            "shuffle the rows before, or train without --streaming.",
            notes,
        )
