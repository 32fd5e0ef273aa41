"""Rows that were read once, kept as an Arrow file in the cache of ``datasets``: memory stays bounded at any size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

# Rises when the same file gives other rows than before.
VERSION = 1


Rows = tuple["pa.Schema", Iterable["pa.RecordBatch"]]


def keep_rows(source: Path, how: list[Any], read: Callable[[], Rows]) -> Dataset:
    """The rows of a file, memory-mapped; read anew where the file or the way of reading it has changed.

    Args:
        source: what the rows come from.
        how: everything else that they depend on.
        read: gives the schema and the batches; is not called where the rows were kept before.

    Raises:
        UserError: no rows, or the cache cannot be written.
    """
    import datasets
    import pyarrow as pa

    folder = Path(datasets.config.HF_DATASETS_CACHE) / "hf_finetune"
    path = folder / f"{_key(source, how)}.arrow"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.partial")
        rows = 0
        try:
            schema, batches = read()
            folder.mkdir(parents=True, exist_ok=True)
            with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
            if not rows:
                raise UserError("the file has no rows", where=str(source), fix="give a file with rows.")
            partial.replace(path)  # whole or not at all, also where several processes read the same file
        except OSError as error:
            raise UserError(
                f"the rows cannot be kept ({error})", where=str(folder), fix="free disk, or set HF_DATASETS_CACHE."
            ) from error
        finally:
            partial.unlink(missing_ok=True)
    return datasets.Dataset.from_file(str(path))


def _key(source: Path, how: list[Any]) -> str:
    from datasets.fingerprint import Hasher

    stat = source.stat()
    return Hasher.hash([VERSION, str(source.resolve()), stat.st_mtime_ns, stat.st_size, how])
