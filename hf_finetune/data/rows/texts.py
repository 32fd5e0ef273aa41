"""Convert the user's text columns to ``text`` and ``text_pair``, for training, evaluation and ``predict``."""

from __future__ import annotations

import datasets
import pyarrow as pa
from accelerate import PartialState
from datasets import Dataset, Features, Value
from pyarrow import compute

from hf_finetune.data.rows.bad_rows import is_missing, refuse_rows
from hf_finetune.data.rows.columns import is_string
from hf_finetune.errors import UserError


def standard_texts(
    split: Dataset, inputs: dict[str, str], where: str, fix: str = "fill the texts in, or drop these rows."
) -> Dataset:
    """Return the columns ``text`` and, for pairs, ``text_pair`` of a split, as strings.

    Several ``text`` columns are joined, one line each: ``title: …``, ``body: …``; cells without text are left out.
    ``fix`` is advice for rows without a text.

    Raises:
        UserError: a column is not text, or a row has no text.
    """
    for own in inputs:
        refuse_other_types(split, own, where)
    chosen = split.select_columns(list(inputs))
    columns = _by_standard(inputs)
    if len(columns["text"]) > 1:
        texts = _join(chosen, inputs)
    else:
        texts = chosen.rename_columns({own: standard for own, standard in inputs.items() if own != standard})
    for standard, named in columns.items():
        place = f"{where}, column{'s' if len(named) > 1 else ''} {', '.join(map(repr, named))}"
        refuse_rows(is_missing(texts, standard, blank=False), "text", place, fix)
    if any(feature.dtype != "string" for feature in texts.features.values()):
        texts = texts.cast(Features(dict.fromkeys(texts.column_names, Value("string"))), keep_in_memory=True)
    return texts


def describe_texts(inputs: dict[str, str]) -> str:
    """Return the columns in words: ``text column 'review'``, or ``pair of texts 'premise' and 'hypothesis'``."""
    columns = _by_standard(inputs)
    first = ", ".join(map(repr, columns["text"]))
    second = columns.get("text_pair")
    if second:
        return f"pairs of texts: {first} and {second[0]!r}"
    return f"texts of the columns {first} in one" if len(columns["text"]) > 1 else f"text column {first}"


def _by_standard(inputs: dict[str, str]) -> dict[str, list[str]]:
    """Return standard name → the user's columns."""
    return {
        standard: [own for own, meant in inputs.items() if meant == standard]
        for standard in dict.fromkeys(inputs.values())
    }


def in_users_cache(split: Dataset) -> bool:
    """Return whether ``datasets`` would write caches into its own folder, not beside the user's files."""
    cache = str(datasets.config.HF_DATASETS_CACHE)
    return all(file["filename"].startswith(cache) for file in split.cache_files)


def join_texts(rows: pa.Table, inputs: dict[str, str]) -> pa.Table:
    """Return the columns under their standard names; several ``text`` columns are joined with their names; null if empty."""
    columns = _by_standard(inputs)
    if len(columns["text"]) < 2:
        return rows.select(list(inputs)).rename_columns(list(inputs.values()))
    parts = []
    for name in columns["text"]:
        cell = rows[name].cast(pa.string())
        blank = compute.equal(compute.utf8_trim_whitespace(cell), "")
        cell = compute.if_else(blank, pa.scalar(None, pa.string()), cell)
        parts.append(compute.coalesce(compute.binary_join_element_wise(f"{name}: ", cell, "\n", ""), ""))
    # Not null_handling="skip", with which Arrow 26 drops rows that are all null.
    text = compute.utf8_slice_codeunits(compute.binary_join_element_wise(*parts, ""), 0, -1)
    joined = {"text": compute.if_else(compute.equal(text, ""), pa.scalar(None, pa.string()), text)}
    for own in columns.get("text_pair", []):
        joined["text_pair"] = rows[own].cast(pa.string())
    return pa.table(joined)


def _join(split: Dataset, inputs: dict[str, str]) -> Dataset:
    with PartialState().main_process_first():
        joined = split.with_format("arrow").map(
            join_texts,
            batched=True,
            batch_size=10_000,
            remove_columns=split.column_names,
            keep_in_memory=not in_users_cache(split),
            fn_kwargs={"inputs": inputs},
            desc="Joining texts",
        )
    return joined.with_format(None)


def refuse_other_types(split: Dataset, column: str, where: str) -> None:
    """Raise a ``UserError`` if a text column has another type."""
    if not is_string(split, column):
        raise UserError(
            f"the column holds {getattr(split.features[column], 'dtype', 'nested values')}, not text",
            where=f"{where}, column {column!r}",
            fix="name the text column with --text_column.",
        )
