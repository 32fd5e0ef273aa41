"""Where the rows come from: a Hub id, files, folders, a saved data set, or an object in Python; raw splits by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hf_finetune.config.options import DataConfig
from hf_finetune.data.readers.archives import ENDINGS, is_archive
from hf_finetune.data.readers.class_folders import SPLIT_FOLDERS, has_files
from hf_finetune.data.readers.image_sources import read_image_split, read_image_splits
from hf_finetune.data.readers.table_of_paths import read_image_table
from hf_finetune.data.readers.tables import BUILDERS, read_file
from hf_finetune.data.readers.text_folder import ENDINGS as TEXT_ENDINGS
from hf_finetune.data.readers.text_folder import find_text_splits, read_text_folder
from hf_finetune.data.splits.splits import SPLIT_SEED
from hf_finetune.errors import UserError, first_line

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

InputKind = Literal["text", "image"]


def read_raw(
    config: DataConfig, kind: InputKind, dataset: DatasetDict | Dataset | None
) -> tuple[dict[str, Dataset], str]:
    """Raw splits by standard name, and what to call their source.

    Raises:
        UserError: nothing given, nothing found, or unreadable.
    """
    if dataset is not None:
        return standard_names(dataset), "the given data set"
    if config.train_file:
        files = {"train": config.train_file, "validation": config.validation_file, "test": config.test_file}
        return {name: _read_rows(f, kind, config) for name, f in files.items() if f}, Path(config.train_file).name
    if config.train_dir:
        folders = {"train": config.train_dir, "validation": config.validation_dir, "test": config.test_dir}
        return {name: _read_classes(f, kind, config) for name, f in folders.items() if f}, Path(config.train_dir).name
    if config.dataset_name:
        folder = Path(config.dataset_name)
        if folder.is_dir():
            return _read_folder(folder, kind, config), folder.resolve().name
        if is_archive(config.dataset_name):
            return _read_archive(config, kind), folder.name
        return _read_hub(config), config.dataset_name
    raise UserError(
        "no data was given",
        where="--dataset_name",
        fix="name a Hub data set or folder with --dataset_name, a file with --train_file, or a folder with --train_dir.",
    )


def _read_rows(file: str | Path, kind: InputKind, config: DataConfig) -> Dataset:
    return read_file(file, config.encoding, config.delimiter) if kind == "text" else read_image_table(file, config)


def _read_archive(config: DataConfig, kind: InputKind) -> dict[str, Dataset]:
    if kind == "text":
        raise UserError(
            f"archives ({', '.join(ENDINGS)}) are read of images only",
            where=f"--dataset_name {config.dataset_name}",
            fix="unpack it, and name the files with --train_file, --validation_file and --test_file.",
        )
    return read_image_splits(str(config.dataset_name), config)


def _read_folder(folder: Path, kind: InputKind, config: DataConfig) -> dict[str, Dataset]:
    """A saved DatasetDict, a folder of train/validation/test files, or images or texts by class."""
    from datasets import load_from_disk

    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        try:
            return standard_names(load_from_disk(str(folder)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the saved data set cannot be read ({first_line(error)})",
                where=str(folder),
                fix="save it anew with save_to_disk, and name the folder that it wrote.",
            ) from error
    files = {
        split: file
        for split, names in SPLIT_FOLDERS.items()
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in BUILDERS and file.stem.lower() in names
    }
    if "train" in files:
        return {split: _read_rows(file, kind, config) for split, file in files.items()}
    if kind == "image":
        return read_image_splits(str(folder), config)
    splits = find_text_splits(folder)
    if not splits and not has_files(folder, TEXT_ENDINGS):
        raise UserError(
            "no train.csv (or .tsv, .json, .jsonl, .parquet, .arrow), no saved data set and no .txt files by class were found",
            where=str(folder),
            fix="name the files with --train_file, --validation_file and --test_file.",
        )
    return {name: read_text_folder(path, config.encoding) for name, path in (splits or {"train": folder}).items()}


def _read_classes(folder: str, kind: InputKind, config: DataConfig) -> Dataset:
    """One sub-folder a class."""
    return read_image_split(folder, config) if kind == "image" else read_text_folder(Path(folder), config.encoding)


def _read_hub(config: DataConfig) -> dict[str, Dataset]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    name = config.dataset_name
    try:
        return standard_names(load_dataset(name, config.dataset_config_name, revision=config.dataset_revision))
    except (
        DatasetNotFoundError,
        FileNotFoundError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        ConnectionError,
        ValueError,
    ) as error:
        raise UserError(
            f"there is no such local folder, and the Hub gave no such data set ({error})",
            where=f"--dataset_name {name}",
            fix="check the name and the network; for a private data set run 'hf auth login'.",
        ) from error


def standard_names(dataset: Any) -> dict[str, Any]:
    """Splits as train, validation and test, whatever they are called; others are left out."""
    if not isinstance(dataset, dict):
        return {"train": dataset}
    lower = {name.lower(): split for name, split in dataset.items()}
    return {split: lower[name] for split, names in SPLIT_FOLDERS.items() for name in names if name in lower}


def first_rows(raw: dict[str, Dataset], config: DataConfig) -> dict[str, Dataset]:
    """The splits, cut to ``--max_train_samples`` and its like."""
    limits = {
        "train": config.max_train_samples,
        "validation": config.max_eval_samples,
        "test": config.max_predict_samples,
    }
    return {name: _take(split, limits[name]) for name, split in raw.items()}


def _take(split: Dataset, limit: int | None) -> Dataset:
    """The first rows; of images, which stand class by class, rows drawn with a fixed seed."""
    from datasets import Image

    if not limit or limit >= len(split):
        return split
    if any(isinstance(feature, Image) for feature in split.features.values()):
        drawn = np.random.default_rng(SPLIT_SEED).permutation(len(split))[:limit]
        return split.select(np.sort(drawn))
    return split.select(range(limit))
