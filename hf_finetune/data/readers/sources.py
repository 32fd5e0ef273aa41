"""Where the rows come from: a Hub id, files, folders, archives, a saved data set, or an object in Python; splits by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from glob import has_magic
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data.readers.archives import is_archive, unpack
from hf_finetune.data.readers.cell import Cell
from hf_finetune.data.readers.conll import ENDINGS, open_conll
from hf_finetune.data.readers.delimited import open_delimited
from hf_finetune.data.readers.folder import folders_in, has_files, is_hidden, open_classes, open_files, split_folders
from hf_finetune.data.readers.hub import open_columnar, open_hub, open_object, open_saved
from hf_finetune.data.readers.json_rows import open_json
from hf_finetune.data.readers.source import Source
from hf_finetune.data.readers.split_names import SPLIT_NAMES, STANDARD, find_splits
from hf_finetune.data.readers.table_of_paths import with_files
from hf_finetune.data.readers.webdataset import is_webdataset, open_webdataset
from hf_finetune.data.rows.columns import LABEL_NAMES
from hf_finetune.errors import UserError

TABLES: dict[str, Callable[..., Source]] = {
    ".csv": open_delimited,
    ".tsv": open_delimited,
    ".json": open_json,
    ".jsonl": open_json,
    ".parquet": open_columnar,
    ".arrow": open_columnar,
    **dict.fromkeys(ENDINGS, open_conll),
}
METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
MOST_FILES = 100_000  # that one name may mean


def open_sources(config: DataConfig, cell: Cell, dataset: Any, notes: list[str]) -> tuple[dict[str, Source], str]:
    """Return the splits by standard name, and what to call their source.

    Raises:
        UserError: nothing given, nothing found, or unreadable.
    """
    if dataset is not None:
        return open_object(dataset, "the given data set", notes), "the given data set"
    for kind, opener in (("file", open_file), ("dir", _open_dir)):
        given = {split: getattr(config, f"{split}_{kind}") for split in SPLIT_NAMES}
        if given["train"]:
            splits = {split: opener(name, cell, config) for split, name in given.items() if name}
            return splits, Path(given["train"]).name
    if config.dataset_name:
        name = config.dataset_name
        folder = Path(name)
        if folder.is_dir():
            return _open_folder(folder, cell, config, notes), folder.resolve().name
        if is_archive(name):
            return _open_archives(expand(name), cell, config), folder.name
        return open_hub(name, config, notes, streaming=config.streaming), name
    raise UserError(
        "no data was given",
        where="--dataset_name",
        fix="name a Hub data set or folder with --dataset_name, a file with --train_file, or a folder with --train_dir.",
    )


def open_tables(files: list[Path], name: str, encoding: str | None = None, delimiter: str | None = None) -> Source:
    """Return the rows of files of one format, which their endings say; ``name`` is what messages call them.

    Raises:
        UserError: no such file, an unknown ending, several formats, an empty file, or rows that cannot be parsed.
    """
    openers = [_opener(file) for file in files]
    for file, opener in zip(files, openers, strict=True):
        if opener is not openers[0]:
            raise UserError(
                f"the file has another format than {files[0]}", where=str(file), fix="give files of one format."
            )
    try:
        if openers[0] is open_delimited:
            return open_delimited(files, name, encoding, delimiter)
        return open_columnar(files, name) if openers[0] is open_columnar else openers[0](files, name, encoding)
    except OSError as error:
        raise UserError(
            f"the file cannot be read ({error})", where=str(files[0]), fix="check the file's rights."
        ) from error


def read_file(file: str | Path, encoding: str | None = None, delimiter: str | None = None) -> Any:
    """Return all rows of one file, as :func:`open_tables` reads them."""
    return open_tables([Path(file)], str(file), encoding, delimiter).keep()


def _opener(file: Path) -> Callable[..., Source]:
    """Return what opens a file, which is there and not empty."""
    if not file.is_file():
        raise UserError("the file does not exist", where=str(file), fix="check the path.")
    ending = file.suffix.lower()
    if ending not in TABLES:
        raise UserError(
            f"files ending in {ending or '(nothing)'!r} are not read",
            where=str(file),
            fix=f"use one of {', '.join(TABLES)}.",
        )
    if file.stat().st_size == 0:
        raise UserError("the file is empty", where=str(file), fix="give a file with a row or more.")
    return TABLES[ending]


def open_file(name: str, cell: Cell, config: DataConfig) -> Source:
    """Return the rows of a table, of several by a pattern, or of archives.

    Raises:
        UserError: no such file, or one that cannot be read.
    """
    paths = expand(name)
    if all(is_archive(path) for path in paths):
        return _open_shards(paths, cell, config)
    return _open_table(paths, name if len(paths) == 1 else f"{name} ({len(paths)} files)", cell, config)


def _open_table(paths: list[Path], where: str, cell: Cell, config: DataConfig) -> Source:
    source = open_tables(paths, where, config.encoding, config.delimiter)
    if not cell.stays_a_file:
        return source
    named = getattr(config, f"{cell.column}_root")
    root = Path(named) if named else paths[0].parent
    if not root.is_dir():
        raise UserError("the folder does not exist", where=f"--{cell.column}_root {root}", fix="check the path.")
    return with_files(source, root, cell, config, str(paths[0]), getattr(config, f"{cell.column}_column"))


def _open_dir(name: str, cell: Cell, config: DataConfig) -> Source:
    """Return one split: a folder of classes or with metadata, an archive of one, or shards."""
    return _open_shards(expand(name), cell, config) if is_archive(name) else _open_split(Path(name), cell, config)


def open_unlabelled(source: Path, cell: Cell, config: DataConfig) -> Any:
    """Return what is to be predicted: a table; or files in a folder or an archive, or one file, with ``id``.

    Raises:
        UserError: nothing there, no such files, or paths that lead out.
    """
    if not cell.stays_a_file:
        return read_file(source, config.encoding, config.delimiter)
    if source.suffix.lower() in TABLES and source.is_file():
        return _open_table([source], str(source), cell, config).keep()
    return open_files(unpack(source, cell.endings()) if is_archive(source) else source, cell)


def expand(name: str) -> list[Path]:
    """Return the files that a name means, each once; a name of a file, or without a pattern, is one file.

    ``*``, ``?`` and ``[…]`` stand for any characters, ``{a,b}`` and ``{000..012}`` for each of several.

    Raises:
        UserError: the pattern names no file, or a range that runs backwards or is too long.
    """
    if Path(name).exists():
        return [Path(name)]
    found: list[Path] = []
    for path in _braces(name):
        root = Path(path).anchor
        found += sorted(Path(root).glob(str(Path(path).relative_to(root)))) if has_magic(path) else [Path(path)]
    if not found:
        raise UserError("no file has a name like this", where=name, fix="check the pattern, and put it in quotes.")
    return list(dict.fromkeys(found))


def _braces(name: str) -> list[str]:
    parts = re.split(r"\{([^{}]*)\}", name)
    choices = [_choices(part, name) if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*choices)]


def _choices(inner: str, name: str) -> list[str]:
    span = re.fullmatch(r"(\d+)\.\.(\d+)", inner)
    if not span:
        return inner.split(",") if "," in inner else [f"{{{inner}}}"]
    first, last = int(span[1]), int(span[2])
    if not 0 <= last - first < MOST_FILES:
        raise UserError(
            f"the range {{{inner}}} is empty or has more than {MOST_FILES:,} shards",
            where=name,
            fix="write {FIRST..LAST}.",
        )
    return [str(number).zfill(len(span[1])) for number in range(first, last + 1)]


def _open_folder(folder: Path, cell: Cell, config: DataConfig, notes: list[str]) -> dict[str, Source]:
    """Open a saved data set, a table a split, archives, files by class, or the layout of a repository of the Hub."""
    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        return open_saved(folder, notes)
    tables = _split_tables(folder, cell, config)
    if tables:
        return tables
    endings = cell.endings()
    if _metadata_of(folder) or any(has_files(inner, endings, folder) for inner in folders_in(folder)):
        return _open_layout(folder, cell, config)
    archives = [path for path in sorted(folder.iterdir()) if is_archive(path) and not is_hidden(path.name)]
    if archives:
        return _open_archives([path for path in archives if path.is_file()], cell, config)
    if any(path.suffix.lower() in TABLES for path in folder.rglob("*")):
        return open_hub(str(folder), config, notes, streaming=config.streaming)
    if not cell.stays_a_file and not has_files(folder, endings, folder):
        raise UserError(
            "no train.csv (or .tsv, .json, .jsonl, .parquet, .arrow), no saved data set, no archives and no "
            f"{cell.called} by class were found",
            where=str(folder),
            fix="name the files with --train_file, --validation_file and --test_file.",
        )
    return _open_layout(folder, cell, config)


def _split_tables(folder: Path, cell: Cell, config: DataConfig) -> dict[str, Source]:
    """Open the tables of a folder that are called like splits; none where none is called like the training split."""
    tables: dict[str, list[Path]] = {}
    for path in _named_tables(folder):
        tables.setdefault(path.stem, []).append(path)
    if "train" not in {STANDARD[stem.lower()] for stem in tables}:
        return {}
    for paths in tables.values():
        if len(paths) > 1:
            raise UserError(
                f"{' and '.join(repr(path.name) for path in paths)} are both files of one split",
                where=str(folder),
                fix="keep one of them, or name the files with --train_file, --validation_file and --test_file.",
            )
    names = find_splits(tables, str(folder))
    return {split: open_file(str(tables[stem][0]), cell, config) for split, stem in names.items()}


def _named_tables(folder: Path) -> list[Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if path.suffix.lower() in TABLES and path.stem.lower() in STANDARD]


def _metadata_of(folder: Path) -> Path | None:
    """Return the table that describes the files of a folder, as ``imagefolder`` of ``datasets`` has it."""
    return next((folder / name for name in METADATA_NAMES if (folder / name).is_file()), None)


def _open_archives(archives: list[Path], cell: Cell, config: DataConfig) -> dict[str, Source]:
    """One archive may hold splits; of several, each belongs to the split that its name says, and otherwise to training."""
    if len(archives) == 1:
        if is_webdataset(archives[0], cell):
            return {"train": open_webdataset(archives, cell, config.encoding)}
        folder = _top(unpack(archives[0], cell.endings()))
        return _split_tables(folder, cell, config) or _open_layout(folder, cell, config, str(archives[0]))
    named: dict[str, list[Path]] = {}
    for archive in archives:
        words = re.split(r"[^a-z]+", archive.name.lower())
        split = next((STANDARD[word] for word in STANDARD if word in words), "train")
        named.setdefault(split, []).append(archive)
    return {split: _open_shards(files, cell, config) for split, files in named.items()}


def _open_shards(archives: list[Path], cell: Cell, config: DataConfig) -> Source:
    """Open shards as one split, or one archive that holds a folder."""
    if len(archives) > 1 or is_webdataset(archives[0], cell):
        return open_webdataset(archives, cell, config.encoding)
    return _open_split(_top(unpack(archives[0], cell.endings())), cell, config, str(archives[0]))


def _top(folder: Path) -> Path:
    """Return where the classes or splits of an unpacked folder stand: most tools pack the folder itself as well."""
    while True:
        inner = list(folder.iterdir())
        if len(inner) != 1 or not (folders_in(inner[0]) or _metadata_of(inner[0]) or _named_tables(inner[0])):
            return folder
        if inner[0].name.lower() in STANDARD:
            return folder
        folder = inner[0]


def _open_layout(folder: Path, cell: Cell, config: DataConfig, where: str = "") -> dict[str, Source]:
    """Open splits by metadata, by folder, or one split."""
    table = _described(folder, cell, config)
    if table is not None:
        return _by_first_folder(table)
    described = [path.name for path in folders_in(folder) if path.name.lower() in STANDARD and _metadata_of(path)]
    splits = {split: folder / name for split, name in find_splits(described, where or str(folder)).items()}
    if "train" not in splits:
        splits = split_folders(folder, cell.endings()) or {"train": folder}
    return {split: _open_split(path, cell, config, where, within=folder) for split, path in splits.items()}


def _open_split(folder: Path, cell: Cell, config: DataConfig, where: str = "", within: Path | None = None) -> Source:
    table = _described(folder, cell, config)
    if table is not None:
        return table
    try:
        return open_classes(folder, cell, config.encoding, within, mixed=config.streaming)
    except UserError as error:
        raise UserError(error.what, where=where or error.where, fix=error.fix) from error  # the archive, not the cache


def _described(folder: Path, cell: Cell, config: DataConfig) -> Source | None:
    """Open a folder by its metadata; None without metadata, or where only the folders are labels."""
    file = _metadata_of(folder) if cell.stays_a_file else None
    if file is None:
        return None
    rows = open_tables([file], str(file))
    names = rows.column_names
    labelled = config.label_column or config.label_columns or {n.strip().lower() for n in names} & {*LABEL_NAMES}
    if not labelled and any(has_files(inner, cell.endings(), folder) for inner in folders_in(folder)):
        say(f"{file.name} has no column of labels: the folders are the classes.")
        return None
    named = getattr(config, f"{cell.column}_column") or ("file_name" if "file_name" in names else None)
    rootless = replace(config, **dict[str, Any]({f"{cell.column}_root": None}))
    return with_files(rows, folder, cell, rootless, str(file), named)


def _by_first_folder(rows: Source) -> dict[str, Source]:
    """Divide rows by the split that their paths start with; all are for training where some start otherwise."""
    found: list[str] = []
    for table in rows.blocks(["id"], 10_000):
        for path in table["id"].to_pylist():
            first, inner, _ = str(path).replace("\\", "/").removeprefix("./").partition("/")
            found.append(STANDARD.get(first.lower(), "") if inner else "")
    if "" in found or "train" not in found:
        return {"train": rows}
    splits = np.array(found)
    return {split: rows.where(splits == split) for split in dict.fromkeys(found)}
