"""Folders and archives of images, in every layout: by class, by split, with metadata, or as WebDataset shards."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data.readers.archives import is_archive, unpack
from hf_finetune.data.readers.class_folders import SPLIT_FOLDERS, folders_in, is_hidden
from hf_finetune.data.readers.image_folder import (
    find_split_folders,
    has_images,
    read_image_folder,
    read_images,
)
from hf_finetune.data.readers.table_of_paths import read_image_table, with_images
from hf_finetune.data.readers.tables import BUILDERS, read_file
from hf_finetune.data.readers.webdataset import is_webdataset, read_webdataset
from hf_finetune.data.rows.columns import LABEL_NAMES, find_image
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 100_000


def read_image_splits(name: str, config: DataConfig) -> dict[str, Dataset]:
    """The splits of a folder, of an archive or of shards.

    Raises:
        UserError: no images in any layout that is known, or an archive that cannot be trusted.
    """
    if is_archive(name):
        return _read_archives(expand(name), config)
    folder = Path(name)
    archives = [path for path in sorted(folder.iterdir()) if is_archive(path) and not is_hidden(path.name)]
    if archives and not metadata_of(folder) and not any(has_images(f, folder) for f in folders_in(folder)):
        return _read_archives([path for path in archives if path.is_file()], config)
    return _read_layout(folder, config)


def read_image_split(name: str, config: DataConfig) -> Dataset:
    """One split: a folder of classes or with metadata, an archive of one, or shards (``--train_dir``).

    Raises:
        UserError: as :func:`read_image_splits`.
    """
    if not is_archive(name):
        return _read_split(Path(name), config)
    return _read_shards(expand(name), config)


def read_unlabelled(source: Path, config: DataConfig) -> Dataset:
    """Images to be predicted: of a folder, an archive or a table of paths, or one image; columns ``id``, ``image``.

    Raises:
        UserError: nothing there, no images, or paths that lead out.
    """
    from datasets import Image

    if source.suffix.lower() not in BUILDERS or not source.is_file():
        return read_images(unpack(source) if is_archive(source) else source)
    rows = read_image_table(source, config)
    column = find_image(rows, config.image_column)
    ids = [str(i) for i in (rows["id"][:] if "id" in rows.column_names else range(len(rows)))]
    images = rows.select_columns([column]).rename_columns({} if column == "image" else {column: "image"})
    return images.cast_column("image", Image(decode=False)).add_column("id", ids)


def expand(name: str) -> list[Path]:
    """The files that a name with ranges means: ``a-{00..02}.tar`` is a-00.tar, a-01.tar, a-02.tar.

    Raises:
        UserError: a range that runs backwards, or of too many files.
    """
    found = _RANGE.search(name)
    if not found:
        return [Path(name)]
    first, last = found[1], found[2]
    if not 0 <= int(last) - int(first) < _MOST_SHARDS:
        raise UserError(
            f"the range {found[0]} is empty or has more than {_MOST_SHARDS:,} shards",
            where=name,
            fix="write {FIRST..LAST}.",
        )
    names = (
        f"{name[: found.start()]}{number:0{len(first)}d}{name[found.end() :]}"
        for number in range(int(first), int(last) + 1)
    )
    return [path for expanded in names for path in expand(expanded)]


def metadata_of(folder: Path) -> Path | None:
    """The table that describes the images of a folder, as ``imagefolder`` of ``datasets`` has it."""
    return next((folder / name for name in METADATA_NAMES if (folder / name).is_file()), None)


def _read_archives(archives: list[Path], config: DataConfig) -> dict[str, Dataset]:
    """One archive may hold splits; of several, each belongs to the split that its name says, and otherwise to training."""
    if len(archives) == 1:
        folder = unpack(archives[0])
        if is_webdataset(folder):
            return {"train": read_webdataset([(archives[0].name, folder)])}
        return _read_layout(_top(folder), config, str(archives[0]))
    named: dict[str, list[Path]] = {}
    for archive in archives:
        named.setdefault(_split_of(archive.name), []).append(archive)
    return {split: _read_shards(files, config) for split, files in named.items()}


def _read_shards(archives: list[Path], config: DataConfig) -> Dataset:
    folders = [(archive.name, unpack(archive)) for archive in archives]
    if len(folders) == 1 and not is_webdataset(folders[0][1]):
        return _read_split(_top(folders[0][1]), config, str(archives[0]))
    return read_webdataset(folders)


def _split_of(name: str) -> str:
    words = re.split(r"[^a-z]+", name.lower())
    return next((split for split, names in SPLIT_FOLDERS.items() if any(word in names for word in words)), "train")


def _top(folder: Path) -> Path:
    """Where the classes or splits of an unpacked folder stand: most tools pack the folder itself as well."""
    while True:
        inner = list(folder.iterdir())
        if len(inner) != 1 or (not folders_in(inner[0]) and not metadata_of(inner[0])):
            return folder
        if inner[0].name.lower() in (name for names in SPLIT_FOLDERS.values() for name in names):
            return folder
        folder = inner[0]


def _read_layout(folder: Path, config: DataConfig, where: str = "") -> dict[str, Dataset]:
    """Splits by metadata, by folder, or one split."""
    table = _described(folder, config)
    if table is not None:
        return _by_first_folder(table)
    splits = {
        split: folder / found.name
        for split, names in SPLIT_FOLDERS.items()
        for found in folders_in(folder)
        if found.name.lower() in names and metadata_of(found)
    }
    splits = splits if "train" in splits else find_split_folders(folder)
    return {
        split: _read_split(path, config, where, within=folder) for split, path in (splits or {"train": folder}).items()
    }


def _read_split(folder: Path, config: DataConfig, where: str = "", within: Path | None = None) -> Dataset:
    table = _described(folder, config)
    if table is not None:
        return table
    try:
        return read_image_folder(folder, within)
    except UserError as error:
        if not where:
            raise
        raise UserError(error.what, where=where, fix=error.fix) from error  # by the archive's name, not the cache's


def _described(folder: Path, config: DataConfig) -> Dataset | None:
    """The rows of the folder's metadata with their images; None without metadata, or where only the folders are labels."""
    file = metadata_of(folder)
    if file is None:
        return None
    rows = read_file(file)
    labelled = (
        config.label_column or config.label_columns or {n.strip().lower() for n in rows.column_names} & {*LABEL_NAMES}
    )
    if not labelled and any(has_images(inner, folder) for inner in folders_in(folder)):
        say(f"{file.name} has no column of labels: the folders are the classes.")
        return None
    named = config.image_column or ("file_name" if "file_name" in rows.column_names else None)
    return with_images(rows, folder, replace(config, image_column=named, image_root=None), str(file))


def _by_first_folder(rows: Dataset) -> dict[str, Dataset]:
    """Rows by the split that their paths start with; all are for training where some start otherwise."""
    splits: dict[str, list[int]] = {}
    known = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}
    for row, path in enumerate(rows["id"][:]):
        first = str(path).replace("\\", "/").removeprefix("./").partition("/")
        splits.setdefault(known.get(first[0].lower(), "") if first[1] else "", []).append(row)
    if "" in splits or "train" not in splits:
        return {"train": rows}
    return {split: rows.select(indices) for split, indices in splits.items()}
