"""WebDataset shards: samples whose files share a name, ``key.jpg`` beside ``key.cls``, ``key.json`` or ``key.txt``.

The builder of ``datasets`` is not used: it takes the types of a shard from its first samples, names the column of images after
their endings, and ends where JPEG and PNG stand in one shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hf_finetune.data.readers.archives import refuse_missing, tar_members, unpack
from hf_finetune.data.readers.cell import Cell, Values
from hf_finetune.data.readers.folder import is_hidden
from hf_finetune.data.readers.json_rows import ColumnTypes, to_table
from hf_finetune.data.readers.source import BLOCK, File, Source
from hf_finetune.data.rows.labels import natural_key
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

SIDES = (".cls", ".json", ".txt")
Sample = dict[str, Any]  # "key", and a File by its role: "cell" or one of SIDES
ROWS = 1_000  # samples held at once


def members_of(archive: Path, cell: Cell) -> dict[str, File]:
    """Return the files of an archive by name. A tar that is not compressed is not unpacked.

    Raises:
        UserError: no such archive, or one that cannot be trusted.
    """
    endings = cell.endings()
    if archive.suffix.lower() == ".tar":
        return tar_members(archive, endings)
    folder = unpack(archive, endings)
    return {path.relative_to(folder).as_posix(): File(path) for path in folder.rglob("*") if path.is_file()}


def is_webdataset(names: Iterable[str], cell: Cell) -> bool:
    """Whether the files of an archive are a shard: labels beside the cells, and no folders of classes.

    Texts and JSON beside images in class folders are notes on the images, not their labels.
    """
    paths = [PurePosixPath(name) for name in names]
    if any(path.suffix == ".cls" for path in paths):
        return True
    top = {path.name for path in paths if len(path.parts) == 1}
    endings = cell.endings()
    stems = {name.partition(".")[0] for name in top if PurePosixPath(name).suffix.lower() in endings}
    sides = [side for side in SIDES if side not in endings]
    return any(PurePosixPath(name).suffix in sides and name.partition(".")[0] in stems for name in top)


def open_webdataset(archives: list[Path], cell: Cell, encoding: str | None, name: str) -> Source:
    """Return the samples of shards; columns ``id``, the cell's, ``label`` (from ``.cls``) and the keys of ``.json``.

    A ``.txt`` is the label where there is neither of the two and texts are not what is read. Shards are read one after the
    other, and the files of a sample may stand anywhere in their shard.

    Args:
        archives: the shards. With several, their names stand before the keys in ``id``.
        cell: what the files of a sample hold.
        encoding: of texts; None to find it.
        name: what they are called in messages.

    Raises:
        UserError: a sample of two images, what is not JSON, or a shard that cannot be trusted.
    """
    for archive in archives:
        refuse_missing(archive)
    shards = _Shards(archives, cell, encoding)
    # Of unpacked images the rows hold the paths, which are not kept: the folder may be gone.
    on_disk = not cell.stays_a_file or all(archive.suffix.lower() == ".tar" for archive in archives)
    return Source(name, shards.schema, shards.read, archives if on_disk else None, ["shards", cell.column, encoding])


class _Shards:
    """The samples of some archives. The types of all columns are found in one pass over the labels."""

    def __init__(self, archives: list[Path], cell: Cell, encoding: str | None) -> None:
        self.archives, self.cell, self.encoding = archives, cell, encoding

    def samples(self) -> Iterator[tuple[str, list[Sample], Values]]:
        """Name, samples and reader of cells of each shard."""
        for archive in self.archives:
            samples = _samples(archive.name, members_of(archive, self.cell), self.cell)
            values, _ = self.cell.open_files([sample["cell"] for sample in samples], archive, self.encoding)
            yield archive.name, samples, values

    @cached_property
    def labels(self) -> pa.Schema:
        """Names and types of the columns beside ``id`` and the cell."""
        types, count = ColumnTypes(), 0
        for name, samples, _ in self.samples():
            count += len(samples)
            for block in _blocks(samples, BLOCK):
                types.add([_row(name, sample, self.cell) for sample in block])
        if not count:
            raise UserError(
                f"the shards hold no {self.cell.called} with .cls, .json or .txt beside them",
                where=", ".join(archive.name for archive in self.archives[:5]),
                fix="name shards of key.jpg with key.cls, or an archive of class folders.",
            )
        return types.schema()

    def schema(self) -> pa.Schema:
        from datasets import Features, Value

        known = {"id": Value("string"), self.cell.column: self.cell.feature()}
        return Features({**known, **Features.from_arrow_schema(self.labels)}).arrow_schema

    def read(self, columns: list[str], size: int) -> Iterator[pa.Table]:
        import pyarrow as pa

        several = len(self.archives) > 1
        told = [name for name in columns if name in self.labels.names]
        for shard, samples, values in self.samples():
            for block in _blocks(samples, min(size, ROWS)):
                found = {}
                if told:
                    table = to_table([_row(shard, sample, self.cell) for sample in block], self.labels, told)
                    found = {name: table[name] for name in told}
                if "id" in columns:
                    ids = [f"{shard}/{sample['key']}" if several else sample["key"] for sample in block]
                    found["id"] = pa.array(ids, pa.string())
                if self.cell.column in columns:
                    found[self.cell.column] = values([sample["cell"] for sample in block])
                yield pa.table({name: found[name] for name in columns})


def _blocks(samples: list[Sample], size: int) -> Iterator[list[Sample]]:
    left = iter(samples)
    while block := list(islice(left, size)):
        yield block


def _samples(shard: str, members: dict[str, File], cell: Cell) -> list[Sample]:
    """Files by key, the path up to the first dot of the file's name; in natural order."""
    found: dict[str, Sample] = {}
    endings = cell.endings()
    for name, file in members.items():
        path = PurePosixPath(name)
        if any(is_hidden(part) for part in path.parts):
            continue
        stem, _, ending = path.name.partition(".")
        key = path.with_name(stem).as_posix()
        sample = found.setdefault(key, {"key": key})
        role = f".{ending.lower()}"
        if role in endings:
            if "cell" in sample:
                raise UserError(
                    f"the sample {key!r} has two {cell.called}, {sample['name']} and {path.name}",
                    where=shard,
                    fix=f"keep one {cell.column} a sample.",
                )
            sample |= {"cell": file, "name": path.name}
        elif role in SIDES:
            sample[role] = file
    return [found[key] for key in sorted(found, key=natural_key) if "cell" in found[key]]


def _row(shard: str, sample: Sample, cell: Cell) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if ".json" in sample:
        row = {name: value for name, value in _json(shard, sample).items() if name not in ("id", cell.column)}
    side = ".cls" if ".cls" in sample else "" if ".json" in sample else ".txt"
    if side in sample:
        row["label"] = sample[side].read().decode("utf-8", "replace").strip()
    return row


def _json(shard: str, sample: Sample) -> dict[str, Any]:
    try:
        content = json.loads(sample[".json"].read())
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{sample['key']}.json cannot be read ({error})", where=shard, fix="fix the file, or leave it out."
        ) from error
    return content if isinstance(content, dict) else {"label": content}
