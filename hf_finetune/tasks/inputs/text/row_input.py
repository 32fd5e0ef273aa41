"""Rows of texts: find their columns, and convert them to the standard columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from pyarrow import compute

from hf_finetune.config.options import DataConfig
from hf_finetune.data.inputs import RowInput
from hf_finetune.data.readers.cell import TEXT
from hf_finetune.data.rows.columns import find_texts
from hf_finetune.data.rows.duplicates import text_keys
from hf_finetune.data.rows.texts import describe_texts, join_texts, refuse_other_types, standard_texts

COLUMNS = ("text", "text_pair")


def columns_of(split: Any) -> list[str]:
    """Return the text columns of a split or row: ``text``, or ``text`` and ``text_pair``."""
    names = getattr(split, "column_names", split)
    return [name for name in COLUMNS if name in names]


class _TextRows:
    """Rows of texts in one column, or of pairs in two."""

    cell = TEXT
    block_rows = 10_000
    most_judging = 10_000
    find_columns = staticmethod(find_texts)
    describe = staticmethod(describe_texts)
    row_keys = staticmethod(text_keys)

    def refuse_other_types(self, split: Any, inputs: dict[str, str], where: str) -> None:
        for column in inputs:
            refuse_other_types(split, column, where)

    def clean(self, split: Dataset, inputs: dict[str, str], where: str) -> Dataset:
        return standard_texts(split, inputs, where, "fill the texts in, or drop these rows with --on_bad_row skip.")

    def standard(self, block: pa.Table, inputs: dict[str, str]) -> pa.Table:
        texts = join_texts(block, inputs)
        return texts.cast(pa.schema([(name, pa.string()) for name in texts.column_names]))

    def filled(self, inputs: dict[str, str]) -> dict[str, list[str]]:
        columns: dict[str, list[str]] = {}
        for own, standard in inputs.items():
            columns.setdefault(standard, []).append(own)
        return columns

    def unlabelled(
        self, split: Dataset, config: DataConfig, trained: dict[str, list[str]] | None, where: str
    ) -> tuple[Dataset, dict[str, str]]:
        inputs = find_texts(split, config, ("label",), trained)
        self.refuse_other_types(split, inputs, where)
        return split, inputs

    def unreadable(self, split: Dataset, rows: list[int]) -> list[tuple[int, str]]:
        return []

    def lengths(self, block: pa.Table) -> np.ndarray | None:
        return np.sum([compute.binary_length(block[name]).to_numpy() for name in columns_of(block)], axis=0)


rows: RowInput = _TextRows()
