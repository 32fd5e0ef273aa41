"""WebDataset shards: samples whose files share a name, ``key.jpg`` beside ``key.cls``, ``key.json`` or ``key.txt``.

The builder of ``datasets`` is not used: it takes the types of a shard from its first samples, names the column of images after
their endings, and ends where JPEG and PNG stand in one shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from datasets import Features, Value

from hf_finetune.data.readers.archives import refuse_missing, tar_members, unpack
from hf_finetune.data.readers.cell import Cell
from hf_finetune.data.readers.json_rows import ColumnTypes, to_table
from hf_finetune.data.readers.source import BLOCK, File, Source
from hf_finetune.data.rows.labels import natural_key
from hf_finetune.errors import UserError

SIDES = (".cls", ".json", ".txt")
Sample = dict[str, Any]  # "key", and a File by its role: "cell" or one of SIDES
ROWS = 1_000  # samples held at once


def is_webdataset(archive: Path, cell: Cell) -> bool:
    """Return whether an archive is a shard: labels beside the cells, and no folders of classes.

    Texts and JSON beside images in class folders are notes on the images, not their labels.

    Raises:
        UserError: no such archive, or one that cannot be trusted.
    """
    endings = cell.endings()
    paths = [PurePosixPath(name) for name in _members(archive, endings)]
    if any(path.suffix == ".cls" for path in paths):
        return True
    top = {path.name for path in paths if len(path.parts) == 1}
    stems = {name.partition(".")[0] for name in top if PurePosixPath(name).suffix.lower() in endings}
    sides = [side for side in SIDES if side not in endings]
    return any(PurePosixPath(name).suffix in sides and name.partition(".")[0] in stems for name in top)


def open_webdataset(archives: list[Path], cell: Cell, encoding: str | None) -> Source:
    """Return the samples of shards; columns ``id``, the cell's, ``label`` (from ``.cls``) and the keys of ``.json``.

    A ``.txt`` is the label where there is neither of the two and texts are not what is read. Shards are read one after the
    other, and the files of a sample may stand anywhere in their shard. With several shards, their names stand before the
    keys in ``id``.

    Raises:
        UserError: a sample of two images, what is not JSON, or a shard that cannot be trusted.
    """
    for archive in archives:
        refuse_missing(archive)
    name = archives[0].name if len(archives) == 1 else f"{archives[0].name} ({len(archives)} files)"
    shards = _Shards(archives, cell, encoding)
    # Of unpacked images the rows hold the paths, which are not kept: the folder may be gone.
    on_disk = not cell.stays_a_file or all(archive.suffix.lower() == ".tar" for archive in archives)
    return Source(name, shards.schema, shards.read, archives if on_disk else None, ["shards", cell.column, encoding])


@dataclass
class _Shards:
    """The samples of some archives. The types of all columns are found in one pass over the labels."""

    archives: list[Path]
    cell: Cell
    encoding: str | None

    @cached_property
    def labels(self) -> pa.Schema:
        """Names and types of the columns beside ``id`` and the cell."""
        types, count = ColumnTypes(), 0
        for archive in self.archives:
            samples = _samples(archive, self.cell)
            count += len(samples)
            for start in range(0, len(samples), BLOCK):
                types.add([_row(archive.name, sample, self.cell) for sample in samples[start : start + BLOCK]])
        if not count:
            raise UserError(
                f"the shards hold no {self.cell.called} with .cls, .json or .txt beside them",
                where=", ".join(archive.name for archive in self.archives[:5]),
                fix="name shards of key.jpg with key.cls, or an archive of class folders.",
            )
        return types.schema()

    def schema(self) -> pa.Schema:
        known = {"id": Value("string"), self.cell.column: self.cell.feature}
        return Features({**known, **Features.from_arrow_schema(self.labels)}).arrow_schema

    def read(self, columns: list[str], size: int) -> Iterator[pa.Table]:
        size = min(size, ROWS)
        told = [name for name in columns if name in self.labels.names]
        for archive in self.archives:
            samples = _samples(archive, self.cell)
            values, _ = self.cell.open_files([sample["cell"] for sample in samples], archive, self.encoding)
            above = f"{archive.name}/" if len(self.archives) > 1 else ""
            for start in range(0, len(samples), size):
                block = samples[start : start + size]
                rows = [_row(archive.name, sample, self.cell) for sample in block] if told else []
                table = to_table(rows, self.labels, told)
                found = {name: table[name] for name in told}
                if "id" in columns:
                    found["id"] = pa.array([above + sample["key"] for sample in block], pa.string())
                if self.cell.column in columns:
                    found[self.cell.column] = values([sample["cell"] for sample in block])
                yield pa.table({name: found[name] for name in columns})


def _members(archive: Path, endings: frozenset[str]) -> dict[str, File]:
    """Return the files of an archive by name. A tar that is not compressed is not unpacked."""
    if archive.suffix.lower() == ".tar":
        return tar_members(archive, endings)
    folder = unpack(archive, endings)
    return {path.relative_to(folder).as_posix(): File(path) for path in folder.rglob("*") if path.is_file()}


def _samples(archive: Path, cell: Cell) -> list[Sample]:
    """Return files by key, the path up to the first dot of the file's name; in natural order."""
    found: dict[str, Sample] = {}
    endings = cell.endings()
    for name, file in _members(archive, endings).items():
        path = PurePosixPath(name)
        stem, _, ending = path.name.partition(".")
        key, role = path.with_name(stem).as_posix(), f".{ending.lower()}"
        sample = found.setdefault(key, {"key": key})
        if role in endings:
            if "cell" in sample:
                raise UserError(
                    f"the sample {key!r} has two {cell.called}, {sample['name']} and {path.name}",
                    where=archive.name,
                    fix=f"keep one {cell.column} a sample.",
                )
            sample |= {"cell": file, "name": path.name}
        elif role in SIDES:
            sample[role] = file
    return [found[key] for key in sorted(found, key=natural_key) if "cell" in found[key]]


def _row(shard: str, sample: Sample, cell: Cell) -> dict[str, Any]:
    row = _json(shard, sample) if ".json" in sample else {}
    row = {name: value for name, value in row.items() if name not in ("id", cell.column)}
    side = ".cls" if ".cls" in sample else "" if ".json" in sample else ".txt"
    if side in sample:
        row["label"] = sample[side].read().decode("utf-8", "replace").strip()
    return row


def _json(shard: str, sample: Sample) -> dict[str, Any]:
    try:
        content = json.loads(sample[".json"].read())
        json.dumps(content, ensure_ascii=False).encode()  # fails at half of a surrogate pair, which no text can hold
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{sample['key']}.json cannot be read ({error})", where=shard, fix="fix the file, or leave it out."
        ) from error
    return content if isinstance(content, dict) else {"label": content}
