"""WebDataset shards: samples whose files share a name, ``key.jpg`` beside ``key.cls``, ``key.json`` or ``key.txt``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.data.readers.class_folders import is_hidden
from hf_finetune.data.readers.image_folder import image_endings, image_features
from hf_finetune.data.rows.labels import natural_key
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

SIDES = (".cls", ".json", ".txt")


def is_webdataset(folder: Path) -> bool:
    """Whether an unpacked archive is a shard: labels beside the images, and no folders of classes.

    Texts and JSON beside images in class folders are notes on the images, not their labels.
    """
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries if entry.is_file()}
    stems = {name.partition(".")[0] for name in names if Path(name).suffix.lower() in image_endings()}
    if any(Path(name).suffix in SIDES and name.partition(".")[0] in stems for name in names):
        return True
    return any(name.endswith(".cls") for _, _, files in os.walk(folder) for name in files)


def read_webdataset(shards: list[tuple[str, Path]]) -> Dataset:
    """The samples of unpacked shards; columns ``id``, ``image``, ``label`` (from ``.cls``) and the keys of ``.json``.

    A ``.txt`` is the label where there is neither of the two.

    Args:
        shards: name and folder of each. With several, the name stands before the keys in ``id``.

    Raises:
        UserError: a sample of two images, or what is no JSON.
    """
    from datasets import Dataset

    samples = [(name, sample) for name, folder in shards for sample in _samples(name, folder)]
    if not samples:
        raise UserError(
            "the shards hold no images with .cls, .json or .txt beside them",
            where=", ".join(name for name, _ in shards[:5]),
            fix="name shards of key.jpg with key.cls, or an archive of class folders.",
        )
    with ThreadPoolExecutor(max_workers=8) as pool:
        rows = list(pool.map(lambda named: _row(*named), samples))
    several = len(shards) > 1
    images = Dataset.from_dict(
        {
            "id": [f"{name}/{sample['key']}" if several else sample["key"] for name, sample in samples],
            "image": [{"bytes": None, "path": sample["image"]} for _, sample in samples],
        },
        features=image_features(),
    )
    columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in _names(rows)}
    for name, values in columns.items():
        images = images.add_column(name, _of_one_type(values))
    return images


def _samples(shard: str, folder: Path) -> list[dict[str, str]]:
    """Files by key: the path up to the first dot of the file's name."""
    found: dict[str, dict[str, str]] = {}
    endings = image_endings()
    for current, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in files:
            stem, _, ending = name.partition(".")
            path = Path(current, name)
            key = path.with_name(stem).relative_to(folder).as_posix()
            sample = found.setdefault(key, {"key": key})
            role = f".{ending.lower()}"
            if role in endings:
                if "image" in sample:
                    raise UserError(
                        f"the sample {key!r} has two images, {Path(sample['image']).name} and {name}",
                        where=shard,
                        fix="keep one image a sample.",
                    )
                sample["image"] = str(path)
            elif role in SIDES:
                sample[role] = str(path)
    return [found[key] for key in sorted(found, key=natural_key) if "image" in found[key]]


def _row(shard: str, sample: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if ".json" in sample:
        row = {name: value for name, value in _json(shard, sample).items() if name not in ("id", "image")}
    side = ".cls" if ".cls" in sample else "" if ".json" in sample else ".txt"
    if side in sample:
        row["label"] = Path(sample[side]).read_text(encoding="utf-8", errors="replace").strip()
    return row


def _json(shard: str, sample: dict[str, str]) -> dict[str, Any]:
    try:
        content = json.loads(Path(sample[".json"]).read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{sample['key']}.json cannot be read ({error})", where=shard, fix="mend the file, or leave it out."
        ) from error
    return content if isinstance(content, dict) else {"label": content}


def _names(rows: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _of_one_type(values: list[Any]) -> list[Any]:
    """A column that Arrow takes: what is of several types, or nested, becomes text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {list}:
        kinds = {type(item) for value in values for item in value or ()}
    if len(kinds) <= 1 and kinds <= {str, bool, float}:
        return values
    if kinds <= {int, float} and all(abs(number) < 2**63 for number in _flat(values)):
        return values
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]


def _flat(values: list[Any]) -> list[Any]:
    return [item for value in values if value is not None for item in (value if isinstance(value, list) else [value])]
