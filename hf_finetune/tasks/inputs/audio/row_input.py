"""Rows of recordings: find their column, the unreadable ones and the equal ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Audio, Dataset, Value

from hf_finetune.config.options import DataConfig
from hf_finetune.data.audio.decode import ENDINGS, require_audio, unreadable_audio
from hf_finetune.data.protocols import RowInput
from hf_finetune.data.readers.cell import Cell, file_cells
from hf_finetune.data.rows.columns import require_column
from hf_finetune.data.rows.file_keys import file_keys
from hf_finetune.errors import UserError

NAMES = ("audio", "sound", "recording", "speech", "wav")
# Not the type Audio of datasets, which needs torchcodec to hold a recording that is given in Python.
FILE = {"bytes": Value("binary"), "path": Value("string")}
AUDIO = Cell(
    "audio",
    "recordings",
    "speech.wav",
    lambda: ENDINGS,
    FILE,
    True,
    NAMES,
    lambda *_: (file_cells, None),
)


class _AudioRows(RowInput):
    """Rows of recordings, kept as files until they are decoded."""

    cell = AUDIO
    block_rows = 1_000
    most_judging = 5_000

    def find_columns(self, split: Any, config: DataConfig, taken: tuple[str, ...]) -> dict[str, str]:
        require_audio()
        if config.audio_column:
            fix = "give one of these to --audio_column."
            return {require_column(split, config.audio_column, "--audio_column", fix): "audio"}
        typed = [name for name, feature in split.features.items() if is_audio(feature)]
        usual = [name for name in typed if name.strip().lower() in NAMES]
        found = usual[:1] or typed
        if len(found) != 1:
            raise UserError(
                f"no column is clearly the recording; the columns are {', '.join(map(repr, split.column_names))}",
                where="the training rows",
                fix="name it with --audio_column.",
            )
        return {found[0]: "audio"}

    def describe(self, inputs: dict[str, str]) -> str:
        return f"audio column {next(iter(inputs))!r}"

    def refuse_other_types(self, split: Any, inputs: dict[str, str], where: str) -> None:
        for column in inputs:
            if not is_audio(split.features[column]):
                raise UserError(
                    f"the column holds {getattr(split.features[column], 'dtype', 'nested values')}, not recordings",
                    where=f"{where}, column {column!r}",
                    fix="name the column of recordings or of their paths with --audio_column.",
                )

    def clean(self, split: Dataset, inputs: dict[str, str], where: str) -> Dataset:
        self.refuse_other_types(split, inputs, where)
        [own] = inputs
        found = split.select_columns([own]).rename_columns({} if own == "audio" else {own: "audio"})
        if isinstance(found.features["audio"], Audio):
            found = found.cast_column("audio", Audio(decode=False))
        return found.cast_column("audio", self.cell.feature)

    def standard(self, block: pa.Table, inputs: dict[str, str]) -> pa.Table:
        return block.select(list(inputs)).rename_columns(list(inputs.values()))

    def filled(self, inputs: dict[str, str]) -> dict[str, list[str]]:
        return {}  # a missing recording counts as an unreadable one

    def unlabelled(
        self, split: Dataset, config: DataConfig, trained: dict[str, list[str]] | None, where: str
    ) -> tuple[Dataset, dict[str, str]]:
        require_audio()
        if split.column_names == ["id", "audio"]:  # a folder, not a table
            return split, {"audio": "audio"}
        inputs = self.find_columns(split, config, ())
        ids = [str(i) for i in (split["id"][:] if "id" in split.column_names else range(len(split)))]
        return self.clean(split, inputs, where).add_column("id", ids), {"audio": "audio"}

    def unreadable(self, split: Dataset, rows: list[int]) -> list[tuple[int, str]]:
        return unreadable_audio(split, rows)

    def lengths(self, block: pa.Table) -> np.ndarray | None:
        return None

    def row_keys(self, splits: dict[str, Dataset]) -> dict[str, np.ndarray]:
        return file_keys(splits, "audio")


def is_audio(feature: Any) -> bool:
    """Return whether a column holds recordings, or files."""
    return isinstance(feature, Audio) or (isinstance(feature, dict) and set(feature) == set(FILE))


rows: RowInput = _AudioRows()
