"""WebDataset shards: samples whose files share a name, ``key.jpg`` beside ``key.cls``, ``key.json`` or ``key.txt``.

The builder of ``datasets`` is not used: it takes the types of a shard from its first samples, names the column of images after
their endings, and ends where JPEG and PNG stand in one shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hf_finetune.data.readers.archives import refuse_missing, tar_members, unpack
from hf_finetune.data.readers.cell import Cell, Values
from hf_finetune.data.readers.folder import is_hidden
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
    """The samples of some archives.

    The types of all columns are found in one pass over the labels: what is of several types, or nested, is text.
    """

    def __init__(self, archives: list[Path], cell: Cell, encoding: str | None) -> None:
        self.archives, self.cell, self.encoding = archives, cell, encoding
        self.types: dict[str, set[str]] = {}

    def samples(self) -> Iterator[tuple[str, list[Sample], Values]]:
        """Name, samples and reader of cells of each shard."""
        for archive in self.archives:
            samples = _samples(archive.name, members_of(archive, self.cell), self.cell)
            values, _ = self.cell.open_files([sample["cell"] for sample in samples], archive, self.encoding)
            yield archive.name, samples, values

    def schema(self) -> pa.Schema:
        import pyarrow as pa
        from datasets import Features, Value

        kinds: dict[str, pa.DataType] = {}
        self.types = {}
        count = 0
        for name, samples, _ in self.samples():
            count += len(samples)
            for block in _blocks(samples, BLOCK):
                rows = [_row(name, sample, self.cell) for sample in block]
                for column in dict.fromkeys(column for row in rows for column in row):
                    self.types.setdefault(column, set()).update(_kinds(row.get(column) for row in rows))
        if not count:
            raise UserError(
                f"the shards hold no {self.cell.called} with .cls, .json or .txt beside them",
                where=", ".join(archive.name for archive in self.archives[:5]),
                fix="name shards of key.jpg with key.cls, or an archive of class folders.",
            )
        kinds = {column: _arrow_type(found) for column, found in self.types.items()}
        features = {"id": Value("string"), self.cell.column: self.cell.feature()}
        more = Features.from_arrow_schema(pa.schema(list(kinds.items())))
        return Features({**features, **more}).arrow_schema

    def read(self, columns: list[str], size: int) -> Iterator[pa.Table]:
        import pyarrow as pa

        if not self.types:
            self.schema()
        several = len(self.archives) > 1
        told = set(columns) - {"id", self.cell.column}
        for shard, samples, values in self.samples():
            for block in _blocks(samples, min(size, ROWS)):
                rows = [_row(shard, sample, self.cell) for sample in block] if told else []
                found: dict[str, Any] = {}
                for name in columns:
                    if name == "id":
                        ids = [f"{shard}/{sample['key']}" if several else sample["key"] for sample in block]
                        found[name] = pa.array(ids, pa.string())
                    elif name == self.cell.column:
                        found[name] = values([sample["cell"] for sample in block])
                    else:
                        kind = _arrow_type(self.types[name])
                        found[name] = pa.array([_as_type(row.get(name), kind) for row in rows], kind)
                yield pa.table(found)


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


def _kinds(values: Iterable[Any]) -> set[str]:
    """Names of the types of some values: ``text``, ``number``, ``whole``, ``truth``, ``list of …``, ``other``."""
    found = set()
    for value in values:
        if isinstance(value, list):
            found |= {f"list of {kind}" for kind in _kinds(value)} or {"list"}
        elif value is not None:
            large = isinstance(value, int) and abs(value) >= 2**63
            names = {str: "text", bool: "truth", float: "number", int: "other" if large else "whole"}
            found.add(names.get(type(value), "other"))
    return found


def _arrow_type(kinds: set[str]) -> pa.DataType:
    """One type for all values of a column; text where they have none in common."""
    import pyarrow as pa

    plain = {"text": pa.string(), "truth": pa.bool_(), "whole": pa.int64(), "number": pa.float64()}
    lists = {kind.removeprefix("list of ") for kind in kinds} - {"list"}
    if all(kind.startswith("list") for kind in kinds) and kinds:
        inner = _arrow_type(lists) if not any(kind.startswith("list") for kind in lists) else pa.string()
        mixed = inner == pa.string() and lists - {"text"}
        return pa.string() if mixed else pa.list_(inner)
    if kinds == {"whole", "number"}:
        return pa.float64()
    return plain.get(next(iter(kinds)), pa.string()) if len(kinds) == 1 else pa.string()


def _as_type(value: Any, kind: pa.DataType) -> Any:
    import pyarrow as pa

    return json.dumps(value) if kind == pa.string() and not isinstance(value, (str, type(None))) else value
