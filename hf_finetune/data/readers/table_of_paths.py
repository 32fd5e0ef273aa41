"""Tables of paths: a column of paths becomes a column of files, each of them below the folder that they belong to."""

from __future__ import annotations

import os
import re
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features, Value

from hf_finetune.config.options import DataConfig
from hf_finetune.data.readers.cell import Cell
from hf_finetune.data.readers.folder import is_below
from hf_finetune.data.readers.hub import as_source
from hf_finetune.data.readers.source import BLOCK, Source
from hf_finetune.data.rows.columns import LABEL_NAMES, is_string
from hf_finetune.errors import UserError

PATH_NAMES = ("path", "file", "file_name", "filename", "filepath", "file_path")
OUTSIDE = "\0"
"""In place of a path that leads out of its folder; no file is called so."""

THREADS = 16
PROBED, FAST = 100, 1e-4  # files that are timed, and seconds of each on a local disk
_ELSEWHERE = re.compile(r"[a-z]:[\\/]|[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # a drive of Windows, or an address


def with_files(
    rows: Source, root: Path, cell: Cell, config: DataConfig, where: str, named: str | None = None
) -> Source:
    """Return rows with their column of paths as files; as they are where no column holds paths.

    Paths start from ``root``; ``named`` is the column, if the user named it. Columns that hold the content itself stay. Rows
    without an ``id`` get the path as it is written.

    Raises:
        UserError: a path that leads out of its folder, or (unless bad ones are skipped) a file that is not there.
    """
    if not config.streaming:
        rows = as_source(rows.keep(), rows.name)
    column = find_paths(rows, cell, named)
    if column is None:
        return rows
    skip = getattr(config, f"on_bad_{cell.column}") == "skip"
    asked = bool(getattr(config, f"{cell.column}_root"))
    table = _Table(rows, column, cell, root, f"{where}, column {column!r}", skip, asked)
    kept = None
    if is_string(rows, column):
        table.check()
    elif not config.streaming and not _some_are_files(rows.keep(), column):
        kept = partial(rows.keep().cast_column, column, cell.feature)
    return Source(rows.name, table.schema, table.read, announce=rows.announce, kept=kept)


@dataclass(frozen=True)
class _Table:
    """A table with a column of paths, or of cells that may name a file instead of holding the content."""

    rows: Source
    column: str
    cell: Cell
    root: Path
    where: str
    skip: bool  # files that are missing are left to be skipped
    asked: bool  # the folder was named

    def schema(self) -> pa.Schema:
        features = {name: kind for name, kind in self.rows.features.items() if name != self.column}
        features[self.column] = self.cell.feature
        return Features({**features, "id": features.get("id", Value("string"))}).arrow_schema

    def check(self) -> None:
        """Refuse paths that lead out, and files that are missing, in one pass over the paths."""
        faults = _Faults()
        for table in self.rows.blocks([self.column], BLOCK):
            self._find(*_cells(table, self.column), faults)
        self._refuse(faults)

    def read(self, columns: list[str], size: int) -> Iterator[pa.Table]:
        known = self.rows.column_names
        new_id = "id" in columns and "id" not in known
        own = [name for name in known if name in columns or (name == self.column and new_id)]
        faults = _Faults()
        first = 1
        for table in self.rows.read(own, size):
            found = {name: table[name] for name in own}
            content, paths = _cells(table, self.column) if self.column in own else (None, [])
            if new_id:
                ids = [path or f"row {row}" for row, path in enumerate(paths, first)]
                found["id"] = pa.array(ids, pa.string())
            if self.column in columns:
                found[self.column] = self._find(content, paths, faults)
                self._refuse(faults)
            yield pa.table({name: found[name] for name in columns})
            first += len(table)

    def _find(self, content: Any, paths: list[str | None], faults: _Faults) -> pa.Array:
        """Return cells as files, and note those that are missing or elsewhere."""
        files = find_files(paths, self.root)
        for path, file, held in zip(paths, files, content.is_valid().to_pylist(), strict=True):
            faults.rows += 1
            if file == OUTSIDE:
                faults.outside.append((faults.rows, path))
            elif file is None and not held:
                faults.missing.append((faults.rows, path))
        return pa.StructArray.from_arrays([content, pa.array(files, pa.string())], ["bytes", "path"])

    def _refuse(self, faults: _Faults) -> None:
        called, root_flag = self.cell.called, f"--{self.cell.column}_root"
        if faults.outside:
            row, path = faults.outside[0]
            if "://" in (path or ""):
                what = f"row {row} names {path!r}; {called} are read from files, not from the network"
                fix = f"download the {called}, and write their paths."
            else:
                what = f"{len(faults.outside)} of {faults.rows} paths lead out of the folder {self.root}; the first, in row "
                what += f"{row}: {path!r}"
                other = "another" if self.asked else f"the folder of all {called}"
                fix = f"write paths below that folder, or name {other} with {root_flag}."
        elif faults.missing and not self.skip:
            row, path = faults.missing[0]
            missing = f"there is no file {str(self.root / path)!r}" if path else "it has no path"
            what = f"{len(faults.missing)} of {faults.rows} {called} are missing; the first, in row {row}: {missing}"
            fix = f"fix the paths, name the folder that they start from with {root_flag}, or drop the rows with "
            fix += f"--on_bad_{self.cell.column} skip."
        else:
            return
        raise UserError(what, where=self.where, fix=fix)


@dataclass
class _Faults:
    """The rows of one pass, counted from 1, whose paths lead out of the folder or name no file."""

    rows: int = 0
    outside: list[tuple[int, str | None]] = field(default_factory=list)
    missing: list[tuple[int, str | None]] = field(default_factory=list)


def find_paths(rows: Source, cell: Cell, named: str | None) -> str | None:
    """Return the column that holds paths or files; None where nothing looks like one."""
    kind = type(cell.feature)
    features = rows.features
    files = [name for name, feature in features.items() if isinstance(feature, kind) or _is_cell(feature)]
    strings = [name for name in features if is_string(rows, name)]
    if named:
        return named if named in (*strings, *files) else None
    if files:
        return next((name for name in cell.names if name in files), files[0])
    like_paths = _like_paths(rows, strings, cell.endings())
    lower = {name.strip().lower(): name for name in reversed(strings)}
    usual = (*cell.names, *PATH_NAMES[:4], *(f"{cell.column}_{word}" for word in ("path", "file", "name")), "img_path")
    by_name = [lower[name] for name in (*usual, *PATH_NAMES[4:]) if name in lower]
    # By both, else by either: a column "image" may hold numbers of images, beside one of their paths.
    both = [name for name in by_name if name in like_paths]
    found = both or by_name or [name for name in like_paths if name.lower() not in LABEL_NAMES]
    return found[0] if both or by_name or len(found) == 1 else None


def _like_paths(rows: Source, columns: list[str], endings: frozenset[str]) -> list[str]:
    """Return the columns whose first cell that is not empty ends like a file."""
    table = next(rows.blocks(columns, 100), None) if columns else None
    if table is None:
        return []
    first = {name: next((value for value in table[name].to_pylist() if value), "") for name in columns}
    return [name for name in columns if Path(first[name].replace("\\", "/")).suffix.lower() in endings]


def _cells(table: pa.Table, column: str) -> tuple[pa.Array, list[str | None]]:
    """Return the bytes of the files that are in the rows, and the paths of those that are not; both None in an empty cell."""
    cells = table[column].to_pylist()
    if not pa.types.is_struct(table.schema.field(column).type):
        return pa.nulls(len(table), pa.binary()), [path or None for path in cells]
    cells = [cell or {"bytes": None, "path": None} for cell in cells]
    paths = [cell["path"] if cell["bytes"] is None else None for cell in cells]
    return pa.array([cell["bytes"] for cell in cells], pa.binary()), paths


def _some_are_files(rows: Any, column: str) -> bool:
    """Return whether some cells name a file instead of holding the content."""
    content, paths = (pc.struct_field(rows.data[column], name) for name in ("bytes", "path"))
    return bool(pc.any(pc.and_(pc.is_null(content), pc.is_valid(paths))).as_py())


def _is_cell(feature: object) -> bool:
    return isinstance(feature, dict) and set(feature) == {"bytes", "path"}


def find_files(paths: list[str | None], root: Path) -> list[str | None]:
    """Return the full path of each file; None where it is missing, ``OUTSIDE`` where the path leads out of the folder.

    A path is tried as it is written, with ``\\`` for ``/``, and with its letters composed and decomposed (Unicode NFC,
    NFD), since tables come from other systems than images do.
    """
    top, real = str(Path(root).absolute()).rstrip("/"), os.path.realpath(root)

    @cache
    def is_inside(folder: str) -> bool:
        return is_below(os.path.realpath(folder or "/"), real)

    def find(part: list[str | None]) -> list[str | None]:
        return [_find(path, top, real, is_inside) if path else None for path in part]

    began = time.perf_counter()
    found, rest = find(paths[:PROBED]), paths[PROBED:]
    if time.perf_counter() - began < PROBED * FAST:  # on a local disk threads only wait for each other
        return found + find(rest)
    size = max(1, -(-len(rest) // THREADS))
    with ThreadPoolExecutor(THREADS) as pool:  # on a network drive each file is a wait
        parts = pool.map(find, [rest[start : start + size] for start in range(0, len(rest), size)])
        return found + [file for part in parts for file in part]


def _find(path: str, top: str, real: str, is_inside: Callable[[str], bool]) -> str | None:
    if ":" in path and _ELSEWHERE.match(path):
        return OUTSIDE
    found = (_look(spelling, top, real, is_inside) for spelling in _spellings(path) if spelling)
    return next((file for file in found if file is not None), None)


def _spellings(path: str) -> Iterator[str]:
    yield path
    names = [path.strip(), path.strip().replace("\\", "/")]
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD") for name in names]
    yield from {*names, *forms} - {path}


def _look(path: str, top: str, real: str, is_inside: Callable[[str], bool]) -> str | None:
    """Find one spelling. ``..`` is left to the system: behind a link it leads to the folder above the link's target."""
    if "\0" in path:
        return None
    folder, _, name = path.rpartition("/")
    if not path.startswith("/"):
        folder = f"{top}/{folder}" if folder else top
    if name == ".." or not is_inside(folder):
        return OUTSIDE
    full = f"{folder}/{name}"
    kind = _kind(full)
    if kind == stat.S_IFLNK:
        target = os.path.realpath(full)
        if not is_below(target, real):
            return OUTSIDE
        kind = _kind(target)
    return full if kind == stat.S_IFREG else None


def _kind(path: str) -> int:
    """Return the type of what a path names, as ``stat`` spells it; 0 where this user can see nothing."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)  # a Path of each would take longer than the question
    except (OSError, ValueError):  # a table may hold any text
        return 0
