"""Rows of texts: find their columns, and convert them to ``text`` and ``text_pair``."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from accelerate import PartialState
from datasets import Dataset, Features, Value

from hf_finetune.config.options import DataConfig
from hf_finetune.data.protocols import RowInput
from hf_finetune.data.readers.cell import TEXT
from hf_finetune.data.rows.columns import find_texts, is_string
from hf_finetune.data.rows.duplicates import tables
from hf_finetune.errors import UserError

COLUMNS = ("text", "text_pair")


def columns_of(split: Any) -> list[str]:
    """Return the text columns of a split or row: ``text``, or ``text`` and ``text_pair``."""
    names = getattr(split, "column_names", split)
    return [name for name in COLUMNS if name in names]


class TextRows(RowInput):
    """Rows of texts in one column, or of pairs in two; several ``text`` columns are joined, one line each.

    ``title: …``, ``body: …``; cells without text are left out.
    """

    cell = TEXT
    block_rows = 10_000
    most_judging = 10_000
    find_columns = staticmethod(find_texts)

    def describe(self, inputs: dict[str, str]) -> str:
        columns = self.filled(inputs)
        first = ", ".join(map(repr, columns["text"]))
        if "text_pair" in columns:
            return f"pairs of texts: {first} and {columns['text_pair'][0]!r}"
        return f"texts of the columns {first} in one" if len(columns["text"]) > 1 else f"text column {first}"

    def refuse_other_types(self, split: Any, inputs: dict[str, str], where: str) -> None:
        for column in inputs:
            if not is_string(split, column):
                raise UserError(
                    f"the column holds {getattr(split.features[column], 'dtype', 'nested values')}, not text",
                    where=f"{where}, column {column!r}",
                    fix="name the text column with --text_column.",
                )

    def clean(self, split: Dataset, inputs: dict[str, str], where: str) -> Dataset:
        self.refuse_other_types(split, inputs, where)
        texts = split.select_columns(list(inputs))
        if len(self.filled(inputs)["text"]) > 1:
            with PartialState().main_process_first():
                texts = texts.with_format("arrow").map(
                    self.standard,
                    batched=True,
                    batch_size=10_000,
                    remove_columns=texts.column_names,
                    keep_in_memory=not in_users_cache(split),
                    fn_kwargs={"inputs": inputs},
                    desc="Joining texts",
                )
            texts = texts.with_format(None)
        else:
            texts = texts.rename_columns({own: standard for own, standard in inputs.items() if own != standard})
        if any(feature.dtype != "string" for feature in texts.features.values()):
            texts = texts.cast(Features(dict.fromkeys(texts.column_names, Value("string"))), keep_in_memory=True)
        return texts

    def standard(self, block: pa.Table, inputs: dict[str, str]) -> pa.Table:
        columns = self.filled(inputs)
        texts = {standard: block[own].cast(pa.string()) for own, standard in inputs.items()}
        if len(columns["text"]) > 1:
            texts["text"] = _joined(block, columns["text"])
        return pa.table(texts)

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
        return np.sum([pc.binary_length(block[name]).to_numpy() for name in columns_of(block)], axis=0)

    def row_keys(self, splits: dict[str, Dataset]) -> dict[str, np.ndarray]:
        columns = columns_of(splits["train"])
        return {
            name: np.concatenate(
                [pd.util.hash_pandas_object(table.to_pandas(), index=False) for table in tables(split, columns)]
            )
            for name, split in splits.items()
        }


rows: RowInput = TextRows()


def in_users_cache(split: Dataset) -> bool:
    """Return whether ``datasets`` would write caches into its own folder, not beside the user's files."""
    cache = str(datasets.config.HF_DATASETS_CACHE)
    return all(file["filename"].startswith(cache) for file in split.cache_files)


def _joined(block: pa.Table, columns: list[str]) -> pa.ChunkedArray:
    """Return the cells of several columns with the names of these columns, one line each; null if all are empty."""
    nothing = pa.scalar(None, pa.string())
    parts = []
    for name in columns:
        cell = block[name].cast(pa.string())
        cell = pc.if_else(pc.equal(pc.utf8_trim_whitespace(cell), ""), nothing, cell)
        parts.append(pc.coalesce(pc.binary_join_element_wise(f"{name}: ", cell, "\n", ""), ""))
    # Not null_handling="skip", with which Arrow 26 drops rows that are all null.
    text = pc.utf8_slice_codeunits(pc.binary_join_element_wise(*parts, ""), 0, -1)
    return pc.if_else(pc.equal(text, ""), nothing, text)
