"""Rows of words, or of a text: find the column, and join words to the column ``text``."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Value

from hf_finetune.config.options import DataConfig
from hf_finetune.data.protocols import RowInput
from hf_finetune.data.rows.columns import find_text, is_string, require_column
from hf_finetune.errors import UserError
from hf_finetune.tasks.inputs.text.row_input import TextRows

WORD_NAMES = ("tokens", "words")
TAG_NAMES = ("ner_tags", "tags", "entities", "spans", "label", "labels", "ner", "pos_tags", "chunk_tags")


class _WordRows(TextRows):
    """Rows of texts, or of lists of words, which are joined with spaces."""

    @staticmethod
    def find_columns(
        split: Any, config: DataConfig, taken: tuple[str, ...], trained: dict[str, list[str]] | None = None
    ) -> dict[str, str]:
        for flag in ("text_columns", "text_pair_column"):
            if getattr(config, flag):
                what, fix = "entities are found in one text", "name its column with --text_column."
                raise UserError(what, where=f"--{flag}", fix=fix)
        if config.text_column:
            fix = "name one of these."
            return {require_column(split, config.text_column, "--text_column", fix): "text"}
        own = next((name for name in (trained or {}).get("text", []) if name in split.column_names), None)
        if own:
            return {own: "text"}
        names = {name.strip().lower(): name for name in split.column_names if name not in taken}
        words = next((names[name] for name in WORD_NAMES if name in names), None)
        return {words if words and is_words(split, words) else find_text(split, taken): "text"}

    def find_labels(self, split: Any, named: list[str]) -> list[str]:
        names = {name.strip().lower(): name for name in split.column_names}
        found = named or [names[name] for name in TAG_NAMES if name in names][:1]
        if not found:
            raise UserError(
                f"no column is clearly that of tags or entities; the columns are {', '.join(split.column_names)}",
                where="the training rows",
                fix="name it with --label_column.",
            )
        return found

    def label_columns(self, labels: list[str], inputs: dict[str, str]) -> list[str]:
        return [*labels, *inputs]  # tags count words, and entities count characters of the text

    def describe(self, inputs: dict[str, str]) -> str:
        return f"text or words of column {next(iter(inputs))!r}"

    def refuse_other_types(self, split: Any, inputs: dict[str, str], where: str) -> None:
        for column in inputs:
            if not is_string(split, column) and not is_words(split, column):
                raise UserError(
                    f"the column holds {getattr(split.features[column], 'dtype', 'nested values')}, not text or words",
                    where=f"{where}, column {column!r}",
                    fix="name the column of words or of the text with --text_column.",
                )

    def unlabelled(
        self, split: Dataset, config: DataConfig, trained: dict[str, list[str]] | None, where: str
    ) -> tuple[Dataset, dict[str, str]]:
        inputs = self.find_columns(split, config, TAG_NAMES, trained)
        self.refuse_other_types(split, inputs, where)
        return split, inputs

    def clean(self, split: Dataset, inputs: dict[str, str], where: str) -> Dataset:
        self.refuse_other_types(split, inputs, where)
        [column] = inputs
        texts = pa.table(split.with_format("arrow", columns=[column])[:])
        return Dataset(pa.table(self.standard(texts, inputs)), fingerprint=f"{split._fingerprint}-text")

    def standard(self, block: pa.Table, inputs: dict[str, str]) -> pa.Table:
        [column] = inputs
        cells = block[column]
        if pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type):
            words = cells.cast(pa.list_(pa.string()))
            lists = [
                pa.ListArray.from_arrays(chunk.offsets, pc.fill_null(chunk.values, ""), mask=pc.is_null(chunk))
                for chunk in words.chunks
            ]
            cells = pc.binary_join(pa.chunked_array(lists, pa.list_(pa.string())), " ")
        return pa.table({"text": cells.cast(pa.string())})


def is_words(split: Any, column: str) -> bool:
    """Return whether the cells of a column are lists of texts."""
    feature = split.features[column]
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return isinstance(inner, Value) and inner.dtype in ("string", "large_string", "string_view")


rows: RowInput = _WordRows()
