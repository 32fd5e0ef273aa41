"""From what the user names (a Hub id, files, folders, a DatasetDict) to clean splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from hf_finetune.console import say
from hf_finetune.data.columns import find_image, find_label, find_text, is_string
from hf_finetune.data.images import SPLIT_FOLDERS, find_split_folders, read_image_folder
from hf_finetune.data.labels import encode_labels, label_names, unlabelled
from hf_finetune.data.splits import SPLIT_SEED, Splits, hold_out_validation
from hf_finetune.errors import UserError
from hf_finetune.options import DataConfig

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

InputKind = Literal["text", "image"]
BUILDERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
}


def load_splits(config: DataConfig, kind: InputKind, dataset: DatasetDict | Dataset | None = None) -> Splits:
    """Read the rows, find the columns, encode the labels, and hold a validation split out where none is given.

    Args:
        config: where the rows are.
        kind: what the task reads, ``"text"`` or ``"image"``.
        dataset: rows that are already in memory; used instead of the places that ``config`` names.

    Raises:
        UserError: nothing given, nothing found, unreadable, or not what the task reads.
    """
    raw, source = _read(config, kind, dataset)
    raw = _first_rows(raw, config)
    if "train" not in raw:
        raise UserError(
            f"there is no training split; found {', '.join(raw) or 'nothing'}",
            where=source,
            fix="name the training rows.",
        )
    for name, split in raw.items():
        if len(split) == 0:
            raise UserError(
                "the split has no rows", where=f"{source}, {name} split", fix="give rows, or leave the split out."
            )
    label = find_label(raw["train"], config.label_column)
    if kind == "text" and config.train_dir:
        raise UserError(
            "a folder of pictures holds no texts", where="--train_dir", fix="name a file with --train_file."
        )
    column = (
        find_image(raw["train"], config.image_column)
        if kind == "image"
        else find_text(raw["train"], config.text_column, label)
    )
    notes: list[str] = []
    for name in [n for n in ("validation", "test") if n in raw and unlabelled(raw[n], label)]:
        del raw[name]
        _note(f"The {name} split has no labels and is not used.", notes)
    names = label_names(raw["train"], label)
    clean = {name: _clean(split, name, kind, column, label, names) for name, split in raw.items()}
    train, validation = clean["train"], clean.get("validation")
    if validation is None:
        train, validation = hold_out_validation(train, config.validation_split, notes)
    say(f"{source}: {kind} column {column!r}, label column {label!r} with {len(names)} classes.")
    return Splits(train, validation, clean.get("test"), names, source, notes)


def read_file(path: str | Path) -> Dataset:
    """One file of rows. CSV and TSV cells stay text, so that a label ``01`` keeps its zero and ``NA`` its name.

    Raises:
        UserError: no such file, an unknown ending, an empty file, or rows that cannot be parsed.
    """
    from datasets import Features, Value, load_dataset
    from datasets.exceptions import DatasetGenerationError

    file = Path(path)
    if not file.is_file():
        raise UserError("the file does not exist", where=str(path), fix="check the path.")
    builder = BUILDERS.get(file.suffix.lower())
    if builder is None:
        raise UserError(
            f"files ending in {file.suffix or '(nothing)'!r} are not read",
            where=str(path),
            fix=f"use one of {', '.join(BUILDERS)}.",
        )
    if file.stat().st_size == 0:
        raise UserError("the file is empty", where=str(path), fix="give a file with a row or more.")
    options: dict[str, object] = {}
    if builder == "csv":
        separator = "\t" if file.suffix.lower() == ".tsv" else ","
        header = _csv_header(file, separator)
        options = {
            "sep": separator,
            "keep_default_na": False,
            "features": Features({c: Value("string") for c in header}),
        }
    try:
        return load_dataset(builder, data_files=str(file), split="train", **options)
    except (DatasetGenerationError, ValueError, OSError) as error:
        if "corresponds to no data" in str(error):
            raise UserError("the file has no rows", where=str(path), fix="give a file with rows.") from error
        cause = error.__cause__ or error
        raise UserError(
            f"the rows cannot be read: {cause}", where=str(path), fix="mend the file, or save it anew."
        ) from error


def _csv_header(file: Path, separator: str) -> list[str]:
    import pandas as pd

    try:
        head = pd.read_csv(file, sep=separator, nrows=1, dtype=str)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"the header cannot be read: {error}", where=str(file), fix="save it as UTF-8 CSV.") from error
    if not isinstance(head.index, pd.RangeIndex):  # pandas would take the first cells for an index, and shift the rest
        raise UserError(
            f"the first row has more cells than the header has names ({len(head.columns)})",
            where=str(file),
            fix="put cells with separators in quotes, or name every column.",
        )
    return [str(column) for column in head.columns]


def _read(config: DataConfig, kind: InputKind, dataset: DatasetDict | Dataset | None) -> tuple[dict[str, Dataset], str]:
    """Raw splits by standard name, and what to call their source."""
    if dataset is not None:
        return _standard_names(dataset), "the given data set"
    if config.train_file:
        files = {"train": config.train_file, "validation": config.validation_file, "test": config.test_file}
        return {name: read_file(file) for name, file in files.items() if file}, Path(config.train_file).name
    if config.train_dir:
        folders = {"train": config.train_dir, "validation": config.validation_dir, "test": config.test_dir}
        return {name: read_image_folder(Path(f)) for name, f in folders.items() if f}, Path(config.train_dir).name
    if config.dataset_name:
        folder = Path(config.dataset_name)
        if folder.is_dir():
            return _read_folder(folder, kind), folder.resolve().name
        return _read_hub(config), config.dataset_name
    raise UserError(
        "no data was given",
        where="--dataset_name",
        fix="name a Hub data set or folder with --dataset_name, a file with --train_file, or a folder with --train_dir.",
    )


def _read_folder(folder: Path, kind: InputKind) -> dict[str, Dataset]:
    """A saved DatasetDict, a folder of train/validation/test files, or images by class."""
    from datasets import load_from_disk

    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        return _standard_names(load_from_disk(str(folder)))
    files = {
        split: file
        for split, names in SPLIT_FOLDERS.items()
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in BUILDERS and file.stem.lower() in names
    }
    if "train" in files:
        return {split: read_file(file) for split, file in files.items()}
    if kind == "text":
        raise UserError(
            "no train.csv (or .tsv, .json, .jsonl, .parquet, .arrow) and no saved data set were found",
            where=str(folder),
            fix="name the files with --train_file, --validation_file and --test_file.",
        )
    splits = find_split_folders(folder)
    return {name: read_image_folder(path) for name, path in (splits or {"train": folder}).items()}


def _read_hub(config: DataConfig) -> dict[str, Dataset]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    name = config.dataset_name
    try:
        return _standard_names(load_dataset(name, config.dataset_config_name, revision=config.dataset_revision))
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


def _standard_names(dataset: DatasetDict | Dataset) -> dict[str, Dataset]:
    """Splits as train, validation and test, whatever they are called; others are left out."""
    from datasets import Dataset

    if isinstance(dataset, Dataset):
        return {"train": dataset}
    lower = {name.lower(): split for name, split in dataset.items()}
    return {split: lower[name] for split, names in SPLIT_FOLDERS.items() for name in names if name in lower}


def _first_rows(raw: dict[str, Dataset], config: DataConfig) -> dict[str, Dataset]:
    limits = {
        "train": config.max_train_samples,
        "validation": config.max_eval_samples,
        "test": config.max_predict_samples,
    }
    return {name: _take(split, limits[name]) for name, split in raw.items()}


def _take(split: Dataset, limit: int | None) -> Dataset:
    """The first rows; of pictures, which stand class by class, rows drawn with a fixed seed."""
    from datasets import Image

    if not limit or limit >= len(split):
        return split
    if any(isinstance(feature, Image) for feature in split.features.values()):
        drawn = np.random.default_rng(SPLIT_SEED).permutation(len(split))[:limit]
        return split.select(np.sort(drawn))
    return split.select(range(limit))


def _clean(split: Dataset, name: str, kind: InputKind, column: str, label: str, names: list[str]) -> Dataset:
    """The columns ``id``, ``text`` or ``image``, ``label`` of one split."""
    from datasets import Features, Image, Value

    for wanted in (column, label):
        if wanted not in split.column_names:
            raise UserError(
                f"there is no column {wanted!r}, which the training rows have; found {', '.join(split.column_names)}",
                where=f"{name} split",
                fix="give every split the same columns.",
            )
    ids = [str(i) for i in split["id"]] if "id" in split.column_names else [str(i) for i in range(len(split))]
    encoded = encode_labels(split, label, names, name)
    inputs = split.select_columns([column]).rename_columns({column: kind} if column != kind else {})
    if kind == "image":
        inputs = inputs.cast_column("image", Image(decode=False))
    else:
        _check_text(inputs, name, column)
        if inputs.features["text"].dtype != "string":
            inputs = inputs.cast(Features({"text": Value("string")}), keep_in_memory=True)
    return inputs.add_column("id", ids).add_column("label", encoded)


def _check_text(split: Dataset, name: str, column: str) -> None:
    if not is_string(split, "text"):
        raise UserError(
            f"the column holds {getattr(split.features['text'], 'dtype', 'nested values')}, not text",
            where=f"{name} split, column {column!r}",
            fix="name the text column with --text_column.",
        )
    empty = [i + 1 for i, text in enumerate(split["text"]) if text is None]
    if empty:
        raise UserError(
            f"{len(empty)} of {len(split)} rows have no text (rows {', '.join(map(str, empty[:5]))})",
            where=f"{name} split, column {column!r}",
            fix="fill the texts in, or drop these rows.",
        )


def _note(sentence: str, notes: list[str]) -> None:
    say(sentence)
    notes.append(sentence)
