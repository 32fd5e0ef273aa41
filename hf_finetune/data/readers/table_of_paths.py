"""Tables of paths: a column of paths becomes a column of files, each of them below the folder that they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.config.options import DataConfig
from hf_finetune.data.readers.cell import Cell
from hf_finetune.data.readers.hub import as_source
from hf_finetune.data.readers.paths import OUTSIDE, Finder
from hf_finetune.data.readers.source import BLOCK, Source
from hf_finetune.data.rows.columns import LABEL_NAMES, is_string
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

PATH_NAMES = ("path", "file", "file_name", "filename", "filepath", "file_path")


def with_files(
    rows: Source, root: Path, cell: Cell, config: DataConfig, where: str, named: str | None = None
) -> Source:
    """Return rows with their column of paths as files; as they are where no column holds paths.

    Columns that hold the content itself stay. Rows without an ``id`` get the path as it is written.

    Args:
        rows: of the table.
        root: the folder that paths start from.
        cell: what the files hold.
        config: says whether missing files are refused, and whether rows are read anew.
        where: the table in messages.
        named: the column, if the user named it.

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
    holds_content = not is_string(rows, column)
    if holds_content and not config.streaming and not _some_are_files(rows.keep(), column):
        return Source(rows.name, table.schema, table.read, kept=partial(_cast, rows, column, cell))
    if not holds_content:
        table.check()
    finder = Finder(root, lists=not config.streaming)
    return Source(rows.name, table.schema, partial(table.read, finder=finder), announce=rows.announce)


@dataclass(frozen=True)
class _Table:
    """A table with a column of paths, or of cells that may name a file instead of holding the content.

    Args:
        skip: files that are missing are left to be skipped.
        asked: the folder was named.
    """

    rows: Source
    column: str
    cell: Cell
    root: Path
    where: str
    skip: bool
    asked: bool

    def schema(self) -> pa.Schema:
        from datasets import Features, Value

        features = {name: kind for name, kind in self.rows.features.items() if name != self.column}
        features[self.column] = self.cell.feature()
        return Features({**features, "id": features.get("id", Value("string"))}).arrow_schema

    def check(self) -> None:
        """Refuse paths that lead out, and files that are missing, in one pass over the paths."""
        finder = Finder(self.root)
        outside, missing = _Faults(), _Faults()
        for table in self.rows.blocks([self.column], BLOCK):
            _, paths = _cells(table, self.column)
            found = finder.find(paths)
            outside.add(paths, [path == OUTSIDE for path in found])
            missing.add(paths, [path is None for path in found])
        self.refuse(outside, missing)

    def refuse(self, outside: _Faults, missing: _Faults) -> None:
        root_flag, bad_flag = f"--{self.cell.column}_root", f"--on_bad_{self.cell.column}"
        if outside.count:
            if "://" in (outside.path or ""):
                raise UserError(
                    f"row {outside.row} names {outside.path!r}; {self.cell.called} are read from files, not from the network",
                    where=self.where,
                    fix=f"download the {self.cell.called}, and write their paths.",
                )
            raise UserError(
                f"{outside.count} of {outside.rows} paths lead out of the folder {self.root}; the first, in row "
                f"{outside.row}: {outside.path!r}",
                where=self.where,
                fix=f"write paths below that folder, or name {'another' if self.asked else f'the folder of all {self.cell.called}'} "
                f"with {root_flag}.",
            )
        if missing.count and not self.skip:
            what = f"there is no file {str(self.root / missing.path)!r}" if missing.path else "it has no path"
            raise UserError(
                f"{missing.count} of {missing.rows} {self.cell.called} are missing; the first, in row {missing.row}: {what}",
                where=self.where,
                fix=f"fix the paths, name the folder that they start from with {root_flag}, or drop the rows with {bad_flag} skip.",
            )

    def read(self, columns: list[str], size: int, finder: Finder | None = None) -> Iterator[pa.Table]:
        import pyarrow as pa

        finder = finder or Finder(self.root, lists=False)
        known = self.rows.column_names
        own = [name for name in known if name in columns or (name == self.column and "id" not in known)]
        first = 0
        for table in self.rows.read(own, size):
            found = {name: table[name] for name in own if name in columns}
            if self.column in own and (self.column in columns or "id" in columns):
                content, paths = _cells(table, self.column)
                if self.column in columns:
                    found[self.column] = self._files(content, paths, finder)
                if "id" not in known:
                    found["id"] = pa.array(
                        [path or f"row {first + i + 1}" for i, path in enumerate(paths)], pa.string()
                    )
            yield pa.table({name: found[name] for name in columns})
            first += len(table)

    def _files(self, content: pa.Array, paths: list[str | None], finder: Finder) -> pa.Array:
        import pyarrow as pa

        found = finder.find(paths)
        outside, missing = _Faults(), _Faults()
        outside.add(paths, [path == OUTSIDE for path in found])
        empty = content.is_null().to_pylist()
        missing.add(paths, [path is None and none for path, none in zip(found, empty, strict=True)])
        self.refuse(outside, missing)
        return pa.StructArray.from_arrays([content, pa.array(found, pa.string())], ["bytes", "path"])


class _Faults:
    """How many rows have a fault, and which is the first."""

    def __init__(self) -> None:
        self.rows = self.count = self.row = 0
        self.path: str | None = None

    def add(self, paths: list[str | None], bad: list[bool]) -> None:
        if any(bad) and not self.count:
            index = bad.index(True)
            self.row, self.path = self.rows + index + 1, paths[index]
        self.rows, self.count = self.rows + len(bad), self.count + sum(bad)


def _cast(rows: Source, column: str, cell: Cell) -> Any:
    return rows.keep().cast_column(column, cell.feature())


def find_paths(rows: Source, cell: Cell, named: str | None) -> str | None:
    """Return the column that holds paths or files; None where nothing looks like one."""
    kind = type(cell.feature())
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
    """The columns whose first cell that is not empty ends like a file."""
    table = next(rows.blocks(columns, 100), None) if columns else None
    if table is None:
        return []
    first = {name: next((value for value in table[name].to_pylist() if value), "") for name in columns}
    return [name for name in columns if Path(first[name].replace("\\", "/")).suffix.lower() in endings]


def _cells(table: pa.Table, column: str) -> tuple[pa.Array, list[str | None]]:
    """Bytes of the files that are in the rows, and the paths of those that are not; both None in an empty cell."""
    import pyarrow as pa

    cells = table[column].to_pylist()
    if not pa.types.is_struct(table.schema.field(column).type):
        return pa.nulls(len(table), pa.binary()), [path or None for path in cells]
    cells = [cell or {"bytes": None, "path": None} for cell in cells]
    paths = [cell["path"] if cell["bytes"] is None else None for cell in cells]
    return pa.array([cell["bytes"] for cell in cells], pa.binary()), paths


def _some_are_files(rows: Any, column: str) -> bool:
    """Whether some cells name a file instead of holding the content."""
    import pyarrow.compute as pc

    for batch in rows.select_columns([column]).with_format("arrow").iter(1000):
        content, paths = (pc.struct_field(batch[column], [name]) for name in ("bytes", "path"))
        if pc.any(pc.and_(pc.is_null(content), pc.is_valid(paths))).as_py():
            return True
    return False


def _is_cell(feature: object) -> bool:
    return isinstance(feature, dict) and set(feature) == {"bytes", "path"}
