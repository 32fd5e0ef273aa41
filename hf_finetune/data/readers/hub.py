"""What ``datasets`` reads: data sets of the Hub and folders laid out like them, saved ones, objects, Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Audio, Image, load_dataset, load_dataset_builder, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from hf_finetune.config.options import DataConfig
from hf_finetune.data.readers.source import Source, refuse_other_columns
from hf_finetune.data.readers.split_names import find_splits
from hf_finetune.errors import UserError, first_line


def open_object(dataset: Any, where: str, notes: list[str]) -> dict[str, Source]:
    """Return the splits of a ``Dataset``, an ``IterableDataset`` or a dictionary of them."""
    if not isinstance(dataset, dict):
        return {"train": as_source(dataset, f"train split, {where}")}
    names = find_splits(dataset, where, notes)
    return {split: as_source(dataset[name], f"{split} split, {where}") for split, name in names.items()}


def open_saved(folder: Path, notes: list[str]) -> dict[str, Source]:
    """Return the splits that ``save_to_disk`` wrote.

    Raises:
        UserError: they cannot be read.
    """
    try:
        return open_object(load_from_disk(str(folder)), str(folder), notes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the saved data set cannot be read ({first_line(error)})",
            where=str(folder),
            fix="save it again with save_to_disk, and name the folder that it wrote.",
        ) from error


def open_columnar(files: list[Path], name: str) -> Source:
    """Return the rows of Parquet files, or of Arrow files.

    Raises:
        UserError: they cannot be read, or have other columns than the first.
    """
    builder = files[0].suffix.lower().removeprefix(".")

    def opened(files: list[Path], name: str) -> Source:
        options = {"path": builder, "data_files": list(map(str, files)), "split": "train"}
        return _source(name, partial(_load, options), by_columns=builder == "parquet")

    source = opened(files, name)
    for file in files[1:]:
        refuse_other_columns(opened([file], str(file)).column_names, source.column_names, file, files[0])
    return source


def open_hub(name: str, config: DataConfig, notes: list[str], *, streaming: bool) -> dict[str, Source]:
    """Return the splits of a data set of the Hub, or of a folder that is laid out like one of its repositories.

    Raises:
        UserError: there is none.
    """
    options = {"path": name, "name": config.dataset_config_name, "revision": config.dataset_revision}
    try:
        if not streaming:
            return open_object(load_dataset(**options), name, notes)
        builder = load_dataset_builder(**options)
        found = list(builder.as_streaming_dataset())
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        what, fix = (
            "the data set is a Python script, which datasets does not run",
            "name its files, or another data set.",
        )
        raise UserError(what, where=f"--dataset_name {name}", fix=fix) from error
    except (DatasetNotFoundError, HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise UserError(
            f"there is no such local folder, and the Hub gave no such data set ({first_line(error)})",
            where=f"--dataset_name {name}",
            fix="check the name and the network; for a private data set run 'hf auth login'.",
        ) from error
    by_columns = hasattr(builder.config, "columns")
    return {
        split: _source(f"{split} split, {name}", partial(_load, options | {"split": own}), by_columns)
        for split, own in find_splits(found, name, notes).items()
    }


def as_source(dataset: Any, name: str) -> Source:
    """Return the rows of one ``Dataset`` or ``IterableDataset``."""
    return _source(name, lambda streaming, columns: dataset, by_columns=False)


def _load(options: dict[str, Any], streaming: bool, columns: tuple[str, ...]) -> Any:
    return load_dataset(streaming=streaming, **options, **({"columns": list(columns)} if columns else {}))


def _source(name: str, load: Callable[[bool, tuple[str, ...]], Any], by_columns: bool) -> Source:
    """Return rows that ``load`` gives: as a stream or not, with these columns alone or (if there are none) with all."""

    @cache
    def stream(*columns: str) -> Any:
        return _prepared(load(True, columns), name)

    def schema() -> pa.Schema:
        with _reading(name):
            return stream().features.arrow_schema

    def read(columns: list[str], size: int) -> Iterator[pa.Table]:
        with _reading(name):
            rows = stream(*columns) if by_columns and columns != stream().column_names else stream()
            yield from (table.select(columns) for table in rows.select_columns(columns).with_format("arrow").iter(size))

    def kept() -> Any:
        with _reading(name):
            return _prepared(load(False, ()), name)

    return Source(name, schema, read, kept=kept)


def _prepared(rows: Any, where: str) -> Any:
    """Return rows with their features known, images not decoded, and the names of a WebDataset's samples as ids."""
    if rows.features is None:  # of JSON, and of CSV at the Hub, they are read off the first rows
        rows = rows._resolve_features()
    if not rows.features:
        raise UserError("there are no rows", where=where, fix="give a file with a row or more.")
    for name, feature in rows.features.items():  # first: whatever is done to columns would decode and encode images
        if isinstance(feature, (Image, Audio)) and feature.decode:
            rows = rows.cast_column(name, type(feature)(decode=False))
    if {"__key__", "__url__"} <= set(rows.column_names):
        rows = rows.remove_columns("__url__")
        rows = rows.remove_columns("__key__") if "id" in rows.column_names else rows.rename_column("__key__", "id")
    return rows


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn the errors of files that cannot be read into a ``UserError``."""
    try:
        yield
    except (DatasetGenerationError, ValueError, OSError, EOFError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        # Of Parquet without rows Arrow says that a batch must have some.
        if "corresponds to no data" in str(error) or "BatchSize must be greater than 0" in str(cause):
            raise UserError("the file has no rows", where=where, fix="give a file with rows.") from error
        raise UserError(
            f"the rows cannot be read: {first_line(cause)}", where=where, fix="fix the file, or save it again."
        ) from error
