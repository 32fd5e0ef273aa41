"""Convert the user's text columns to ``text`` and ``text_pair``, for training, evaluation and ``predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_finetune.data.rows.bad_rows import refuse_rows
from hf_finetune.data.rows.columns import is_string
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset


def standard_texts(
    split: Dataset, inputs: dict[str, str], where: str, fix: str = "fill the texts in, or drop these rows."
) -> Dataset:
    """Return the columns ``text`` and, for pairs, ``text_pair`` of a split, as strings.

    Args:
        split: rows with the user's columns.
        inputs: the user's name of each column → ``text`` or ``text_pair``. Several ``text`` columns are joined, one line
            each: ``title: …``, ``body: …``; cells without text are left out.
        where: name of the split in messages.
        fix: advice for rows without a text.

    Raises:
        UserError: a column is not text, or a row has no text.
    """
    from datasets import Features, Value

    for own in inputs:
        refuse_other_types(split, own, where)
    first = [own for own, standard in inputs.items() if standard == "text"]
    second = [own for own, standard in inputs.items() if standard == "text_pair"]
    chosen = split.select_columns(list(inputs))
    if len(first) > 1:
        texts = _join(chosen, inputs)
    else:
        texts = chosen.rename_columns({own: standard for own, standard in inputs.items() if own != standard})
    for standard, columns in (("text", first), ("text_pair", second)):
        if columns:
            _refuse_missing(texts, standard, columns, where, fix)
    if any(feature.dtype != "string" for feature in texts.features.values()):
        texts = texts.cast(Features(dict.fromkeys(texts.column_names, Value("string"))), keep_in_memory=True)
    return texts


def describe_texts(inputs: dict[str, str]) -> str:
    """Return the columns in words: ``text column 'review'``, or ``pair of texts 'premise' and 'hypothesis'``."""
    first = [own for own, standard in inputs.items() if standard == "text"]
    second = [own for own, standard in inputs.items() if standard == "text_pair"]
    one = (
        f"texts of the columns {', '.join(map(repr, first))} in one" if len(first) > 1 else f"text column {first[0]!r}"
    )
    if not second:
        return one
    return f"pairs of texts: {', '.join(map(repr, first))} and {second[0]!r}"


def in_users_cache(split: Dataset) -> bool:
    """Return whether ``datasets`` would write caches into its own folder, not beside the user's files."""
    from datasets.config import HF_DATASETS_CACHE

    return all(file["filename"].startswith(str(HF_DATASETS_CACHE)) for file in split.cache_files)


def join_texts(rows: pyarrow.Table, inputs: dict[str, str]) -> pyarrow.Table:
    """Return the columns under their standard names; several ``text`` columns are joined with their names; null if empty."""
    import pyarrow as pa
    from pyarrow import compute

    first = [own for own, standard in inputs.items() if standard == "text"]
    if len(first) < 2:
        return rows.select(list(inputs)).rename_columns(list(inputs.values()))
    parts = []
    for name in first:
        cell = rows[name].cast(pa.string())
        blank = compute.equal(compute.utf8_trim_whitespace(cell), "")
        cell = compute.if_else(blank, pa.scalar(None, pa.string()), cell)
        parts.append(compute.coalesce(compute.binary_join_element_wise(f"{name}: ", cell, "\n", ""), ""))
    # Not null_handling="skip", with which Arrow 26 drops rows that are all null.
    text = compute.utf8_slice_codeunits(compute.binary_join_element_wise(*parts, ""), 0, -1)
    text = compute.if_else(compute.equal(text, ""), pa.scalar(None, pa.string()), text)
    pairs = [rows[own].cast(pa.string()) for own, standard in inputs.items() if standard == "text_pair"]
    return pa.table([text, *pairs], ["text", "text_pair"][: 1 + len(pairs)])


def _join(split: Dataset, inputs: dict[str, str]) -> Dataset:
    from accelerate import PartialState

    options: dict[str, Any] = {
        "batch_size": 10_000,
        "keep_in_memory": not in_users_cache(split),
        "desc": "Joining texts",
        "fn_kwargs": {"inputs": inputs},
    }
    with PartialState().main_process_first():
        joined = split.with_format("arrow").map(join_texts, batched=True, remove_columns=split.column_names, **options)
    return joined.with_format(None)


def refuse_other_types(split: Dataset, column: str, where: str) -> None:
    """Raise a ``UserError`` if a text column has another type."""
    if not is_string(split, column):
        raise UserError(
            f"the column holds {getattr(split.features[column], 'dtype', 'nested values')}, not text",
            where=f"{where}, column {column!r}",
            fix="name the text column with --text_column.",
        )


def _refuse_missing(texts: Dataset, standard: str, columns: list[str], where: str, fix: str) -> None:
    empty = [index + 1 for index, text in enumerate(texts[standard][:]) if text is None]
    named = f"column{'s' if len(columns) > 1 else ''} {', '.join(map(repr, columns))}"
    refuse_rows(empty, len(texts), "text", f"{where}, {named}", fix)
