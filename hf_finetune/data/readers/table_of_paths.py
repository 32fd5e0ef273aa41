"""Tables of images: a column of paths becomes a column of images, each of them below the folder that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.config.options import DataConfig
from hf_finetune.data.readers.image_folder import image_endings
from hf_finetune.data.readers.paths import OUTSIDE, find_files
from hf_finetune.data.readers.tables import read_file
from hf_finetune.data.rows.columns import IMAGE_NAMES, LABEL_NAMES, is_string
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

PATH_NAMES = (
    *IMAGE_NAMES,
    "path",
    "file",
    "file_name",
    "filename",
    "image_path",
    "image_file",
    "image_name",
    "img_path",
    "filepath",
    "file_path",
)


def read_image_table(file: str | Path, config: DataConfig) -> Dataset:
    """The rows of a file, with the column of paths as images; rows without an ``id`` get the path as it is written.

    Paths are relative to ``--image_root`` or to the folder of the file. Columns that hold the images themselves stay.

    Raises:
        UserError: an unreadable file, a path that leads out of its folder, or (but with ``--on_bad_image skip``) a
            image that is not there.
    """
    rows = read_file(file, config.encoding, config.delimiter)
    root = Path(config.image_root) if config.image_root else Path(file).parent
    if not root.is_dir():
        raise UserError("the folder does not exist", where=f"--image_root {root}", fix="check the path.")
    return with_images(rows, root, config, str(file))


def with_images(rows: Dataset, root: Path, config: DataConfig, where: str) -> Dataset:
    """Rows with their column of paths as images; as they are where no column holds paths.

    Raises:
        UserError: as :func:`read_image_table`.
    """
    import pyarrow as pa
    from datasets import Image

    column = find_paths(rows, config.image_column)
    if column is None:
        return rows
    if not is_string(rows, column) and not _some_are_files(rows, column):
        return rows.cast_column(column, Image(decode=False))
    content, paths = _cells(rows, column)
    found = find_files(paths, root)
    place = f"{where}, column {column!r}"
    _refuse_outside(paths, found, root, place, bool(config.image_root))
    if config.on_bad_image == "error":
        _refuse_missing(paths, found, content, root, place)
    cells = pa.StructArray.from_arrays([content, pa.array(found, pa.string())], ["bytes", "path"])
    written = [path or f"row {row + 1}" for row, path in enumerate(paths)]
    return _replaced(rows, column, cells, written)


def _replaced(rows: Dataset, column: str, cells: pa.Array, ids: list[str]) -> Dataset:
    """Rows with these images in a column, and ids where they have none. In one piece: ``datasets`` cannot select among
    the columns of rows that ``add_column`` put together."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Features, Image, Value
    from datasets.table import InMemoryTable

    rest = rows.remove_columns(column)
    table = rest.with_format("arrow")[:]
    columns = {name: table[name] for name in rest.column_names} | {column: cells}
    features = {**rest.features, column: Image(decode=False)}
    if "id" not in columns:
        columns["id"], features["id"] = pa.array(ids, pa.string()), Value("string")
    return Dataset(InMemoryTable(pa.table(columns)), info=DatasetInfo(features=Features(features)))


def find_paths(rows: Dataset, named: str | None) -> str | None:
    """The column that holds paths of images; None where the images are in the rows, or nothing looks like a path."""
    from datasets import Image

    images = [name for name, feature in rows.features.items() if isinstance(feature, Image) or _is_cell(feature)]
    strings = [name for name in rows.column_names if is_string(rows, name)]
    if named:
        return named if named in (*strings, *images) else None
    if images:
        return next((name for name in IMAGE_NAMES if name in images), images[0])
    like_paths = [name for name in strings if _names_images(rows, name)]
    lower = {name.strip().lower(): name for name in reversed(strings)}
    by_name = [lower[name] for name in PATH_NAMES if name in lower]
    # By both, else by either: a column "image" may hold numbers of images, beside one of their paths.
    both = [name for name in by_name if name in like_paths]
    found = both or by_name or [name for name in like_paths if name.lower() not in LABEL_NAMES]
    return found[0] if both or by_name or len(found) == 1 else None


def _cells(rows: Dataset, column: str) -> tuple[pa.Array, list[str | None]]:
    """Bytes of the images that are in the rows, and the paths of those that are not; both None in an empty cell."""
    import pyarrow as pa

    if is_string(rows, column):
        return pa.nulls(len(rows), pa.binary()), [path or None for path in rows[column][:]]
    cells = rows.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    cells = [cell or {"bytes": None, "path": None} for cell in cells]
    paths = [cell["path"] if cell["bytes"] is None else None for cell in cells]
    return pa.array([cell["bytes"] for cell in cells], pa.binary()), paths


def _some_are_files(rows: Dataset, column: str) -> bool:
    """Whether some cells of a column of images name a file instead of holding the image."""
    import pyarrow.compute as pc

    for batch in rows.select_columns([column]).with_format("arrow").iter(1000):
        content, paths = (pc.struct_field(batch[column], [name]) for name in ("bytes", "path"))
        if pc.any(pc.and_(pc.is_null(content), pc.is_valid(paths))).as_py():
            return True
    return False


def _is_cell(feature: object) -> bool:
    return isinstance(feature, dict) and set(feature) == {"bytes", "path"}


def _names_images(rows: Dataset, column: str) -> bool:
    first = next((value for value in rows[:100][column] if value), "")
    return Path(first.replace("\\", "/")).suffix.lower() in image_endings()


def _refuse_outside(paths: list[str | None], found: list[str | None], root: Path, where: str, asked: bool) -> None:
    outside = [row for row, path in enumerate(found) if path == OUTSIDE]
    if not outside:
        return
    path = paths[outside[0]] or ""
    if "://" in path:
        raise UserError(
            f"row {outside[0] + 1} names {path!r}; images are read from files, not from the network",
            where=where,
            fix="download the images, and write their paths.",
        )
    raise UserError(
        f"{len(outside)} of {len(paths)} paths lead out of the folder {root}; the first, in row {outside[0] + 1}: {path!r}",
        where=where,
        fix=f"write paths below that folder, or name {'another' if asked else 'the folder of all images'} with --image_root.",
    )


def _refuse_missing(
    paths: list[str | None], found: list[str | None], content: pa.Array, root: Path, where: str
) -> None:
    empty = content.is_null().to_pylist()
    missing = [row for row, path in enumerate(found) if path is None and empty[row]]
    if not missing:
        return
    path = paths[missing[0]]
    what = f"there is no file {str(root / path)!r}" if path else "it has no path"
    raise UserError(
        f"{len(missing)} of {len(paths)} images are missing; the first, in row {missing[0] + 1}: {what}",
        where=where,
        fix="mend the paths, name the folder that they start from with --image_root, or drop the rows with "
        "--on_bad_image skip.",
    )
