"""Rows that are read anew each time: Hub data sets, files by pattern, tar shards, folders; block by block."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.config.options import DataConfig
from hf_finetune.data.readers.class_folders import SPLIT_FOLDERS
from hf_finetune.data.readers.image_folder import find_split_folders, read_image_folder
from hf_finetune.data.readers.sources import InputKind, standard_names
from hf_finetune.data.readers.tables import BUILDERS, how_to_read
from hf_finetune.data.splits.splits import SPLIT_SEED
from hf_finetune.errors import UserError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

# Formats of which a reader can take single columns, and what its option for that is called.
_PROJECTION = {"parquet": "columns", "csv": "usecols"}


@dataclass
class Source:
    """One split, as often as it is asked for.

    Args:
        dataset: a ``Dataset`` or ``IterableDataset``; images are not decoded.
        name: what it is called in messages.
        narrow: opens the same rows with these columns alone, where the format can be read by columns.
        limit: rows that count, from the first; None for all.
    """

    dataset: Any
    name: str
    narrow: Callable[[list[str]], Any] | None = None
    limit: int | None = None
    _narrowed: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def blocks(self, columns: list[str], size: int) -> Iterator[pa.Table]:
        """These columns of all rows, ``size`` rows at a time (fewer in the last block), in the order of the source.

        Raises:
            UserError: the rows cannot be read.
        """
        left = self.limit
        with _reading(self.name):
            for table in self._of(columns).with_format("arrow").iter(size):
                part = table.select(columns) if left is None else table.select(columns).slice(0, left)
                yield part
                left = None if left is None else left - len(part)
                if left == 0:
                    return

    def _of(self, columns: list[str]) -> Any:
        if self.narrow is None:
            return self.dataset.select_columns(columns)
        key = tuple(columns)
        if key not in self._narrowed:
            self._narrowed[key] = _undecoded(self.narrow(columns))
        return self._narrowed[key]


def open_sources(config: DataConfig, kind: InputKind, dataset: Any = None) -> tuple[dict[str, Source], str]:
    """The splits by standard name, and what to call their source.

    Raises:
        UserError: nothing given, nothing found, or unreadable.
    """
    if dataset is not None:
        return _given(standard_names(dataset), "the given data set")
    if config.train_file:
        files = {"train": config.train_file, "validation": config.validation_file, "test": config.test_file}
        return {split: open_files(file, split, config) for split, file in files.items() if file}, Path(
            config.train_file
        ).name
    if config.train_dir:
        folders = {"train": config.train_dir, "validation": config.validation_dir, "test": config.test_dir}
        return _image_folders({n: Path(f) for n, f in folders.items() if f}), Path(config.train_dir).name
    if config.dataset_name:
        folder = Path(config.dataset_name)
        if folder.is_dir():
            return _read_folder(folder, kind, config), folder.resolve().name
        return _built(config.dataset_name, config), config.dataset_name
    raise UserError(
        "no data was given",
        where="--dataset_name",
        fix="name a Hub data set or folder with --dataset_name, a file with --train_file, or a folder with --train_dir.",
    )


def open_files(pattern: str, split: str, config: DataConfig) -> Source:
    """Files of one format and one set of columns, one after the other, in the order of their names.

    Args:
        pattern: a path, with ``*``, ``?``, ``[…]`` for any characters, ``{a,b}`` and ``{000..012}`` for each of several.
        split: its name in messages.
        config: names encoding and delimiter, if need be.

    Raises:
        UserError: no such file, formats or columns that differ, or unreadable rows.
    """
    from datasets import load_dataset

    paths = expand(pattern)
    options: dict[str, Any] = {}
    if all(path.endswith(".tar") for path in paths):
        for path in paths:
            if not Path(path).is_file():
                raise UserError("the file does not exist", where=path, fix="check the path.")
        builder = "webdataset"
    else:
        builder, options = _common(paths, config)

    def narrow(columns: list[str]) -> Any:
        named = {_PROJECTION[builder]: columns}
        if "features" in options:
            named["features"] = type(options["features"])({c: options["features"][c] for c in columns})
        return load_dataset(builder, data_files=paths, split="train", streaming=True, **(options | named))

    where = pattern if len(paths) == 1 else f"{pattern} ({len(paths)} files)"
    with _reading(where):
        rows = load_dataset(builder, data_files=paths, split="train", streaming=True, **options)
    return Source(_prepared(rows, where), f"{split} split, {where}", narrow if builder in _PROJECTION else None)


def _common(paths: list[str], config: DataConfig) -> tuple[str, dict[str, Any]]:
    builder, options = how_to_read(paths[0], config.encoding, config.delimiter)
    for path in paths[1:]:
        if how_to_read(path, config.encoding, config.delimiter) != (builder, options):
            raise UserError(
                f"the file has another format or other columns than {paths[0]}",
                where=path,
                fix="give files of one format with the same columns in the same order.",
            )
    return builder, options


def expand(pattern: str) -> list[str]:
    """The files that a pattern names, each once; a path that is no pattern, or a file, stands for itself.

    Raises:
        UserError: the pattern names no file.
    """
    if Path(pattern).exists():
        return [pattern]
    found: list[str] = []
    for path in _braces(pattern):
        root = Path(path).anchor
        found += sorted(map(str, Path(root).glob(str(Path(path).relative_to(root))))) if has_magic(path) else [path]
    if not found:
        raise UserError("no file has a name like this", where=pattern, fix="check the pattern, and put it in quotes.")
    return list(dict.fromkeys(found))


def _braces(pattern: str) -> list[str]:
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    choices = match[1].split(",")
    if span:
        choices = [str(number).zfill(len(span[1])) for number in range(int(span[1]), int(span[2]) + 1)]
    return [path for choice in choices for path in _braces(pattern[: match.start()] + choice + pattern[match.end() :])]


def _read_folder(folder: Path, kind: InputKind, config: DataConfig) -> dict[str, Source]:
    """A saved data set, train/validation/test files, images by class, or anything that ``load_dataset`` understands."""
    from datasets import load_from_disk

    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        return _given(standard_names(load_from_disk(str(folder))), str(folder))[0]
    files = {
        split: str(file)
        for split, names in SPLIT_FOLDERS.items()
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in BUILDERS and file.stem.lower() in names
    }
    if "train" in files:
        return {split: open_files(file, split, config) for split, file in files.items()}
    tables = any(path.suffix.lower() in (*BUILDERS, ".tar") for path in folder.rglob("*"))
    if kind == "image" and not tables:
        return _image_folders(find_split_folders(folder) or {"train": folder})
    return _built(str(folder), config)


def _image_folders(folders: dict[str, Path]) -> dict[str, Source]:
    """Images stand class by class: their paths, which are all that is in memory, are shuffled once and for all."""
    rows = {name: read_image_folder(path).shuffle(seed=SPLIT_SEED) for name, path in folders.items()}
    return {name: Source(split, f"{name} split, {folders[name]}") for name, split in rows.items()}


def _built(name: str, config: DataConfig) -> dict[str, Source]:
    """What ``datasets`` finds at the Hub, or in a folder that is laid out like one of its repositories."""
    from datasets import load_dataset, load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    options = {"name": config.dataset_config_name, "revision": config.dataset_revision}
    try:
        builder = load_dataset_builder(name, **options)
        splits = standard_names(builder.as_streaming_dataset())
    except (DatasetNotFoundError, HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise UserError(
            f"no data set that can be streamed was found ({first_line(error)})",
            where=f"--dataset_name {name}",
            fix="check the name and the network; for a private data set run 'hf auth login'.",
        ) from error

    def by_columns(split: str) -> Callable[[list[str]], Any]:
        return lambda columns: load_dataset(name, split=split, streaming=True, columns=columns, **options)

    parquet = hasattr(builder.config, "columns")
    return {
        standard: Source(
            _prepared(rows, name),
            f"{standard} split, {name}",
            by_columns(str(rows.split)) if parquet else None,
        )
        for standard, rows in splits.items()
    }


def _given(splits: dict[str, Any], where: str) -> tuple[dict[str, Source], str]:
    return {name: Source(_prepared(rows, where), f"{name} split") for name, rows in splits.items()}, where


def _prepared(rows: Any, where: str) -> Any:
    """The rows with their features known, images not decoded, and the names of a WebDataset's samples as ids."""
    if rows.features is None:  # of JSON, and of CSV at the Hub, they are read off the first rows
        with _reading(where):
            rows = rows._resolve_features()
    if not rows.features:
        raise UserError("there are no rows", where=where, fix="give a file with a row or more.")
    rows = _undecoded(rows)  # first of all: whatever is done to columns would decode images, and encode them anew
    if {"__key__", "__url__"} <= set(rows.column_names):
        rows = rows.remove_columns("__url__")
        rows = rows.remove_columns("__key__") if "id" in rows.column_names else rows.rename_column("__key__", "id")
    return rows


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """What readers of files say of a broken one, said to the user."""
    from datasets.exceptions import DatasetGenerationError

    try:
        yield
    except (DatasetGenerationError, ValueError, OSError, EOFError, tarfile.TarError) as error:
        raise UserError(
            f"the rows cannot be read: {first_line(error)}", where=where, fix="mend the file, or save it anew."
        ) from error


def _undecoded(rows: Any) -> Any:
    from datasets import Image

    for name, feature in (rows.features or {}).items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
    return rows
