"""Check texts: empty and damaged ones, and what truncation at ``--max_length`` loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.rows.columns import TEXT_NAMES
from hf_finetune.data.rows.duplicates import tables
from hf_finetune.data.rows.finding import Section, Severity, Table, draw, percent, row_ids
from hf_finetune.tasks.inputs.text.near import near_texts
from hf_finetune.tasks.inputs.text.row_input import columns_of

MOST_TOKENISED = 20_000  # rows per split to tokenise
_COSTLY = 0.05  # share of truncated tokens from which they are a warning

# UTF-8 that was read as Latin-1 or Windows-1252, and the replacement character.
_DAMAGED = r"Ã[\x{80}-\x{BF}\x{192}\x{201A}-\x{2122}]|â€|Â[\x{A0}-\x{BF}]|\x{FFFD}"
_WRONG: tuple[tuple[str, Severity, str, str], ...] = (
    ("text-empty", "warning", "are empty or hold spaces only", "drop them, or name another column with --text_column."),
    ("text-without-letters", "info", "hold no letter", "look whether they say anything about the label."),
    (
        "text-damaged",
        "warning",
        "hold characters of a wrong encoding (such as Ã© for é)",
        "save the file anew as UTF-8.",
    ),
)


def why_column(config: DataConfig, own: str, number: int) -> str:
    if number:
        return "named by --text_pair_column"
    if config.text_column:
        return "named by --text_column"
    usual = own.strip().lower() in TEXT_NAMES
    return "a usual name of texts" if usual else "the only column of strings beside the label"


@dataclass(frozen=True)
class TextInspection:
    """The section of ``check`` on texts, and the splits unchanged, because every text can be read."""

    section: Section
    splits: Splits

    def comparable(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows

    def near(self, rows: pd.DataFrame) -> np.ndarray:
        return near_texts(_texts(self.splits, rows))

    def add_processor(self, tokenizer: Any) -> None:
        """Add the number of tokens, and the share of rows and tokens that ``--max_length`` truncates."""
        say("Counting tokens.")
        section, limit = self.section, int(tokenizer.model_max_length)
        table = []
        for name, split in self.splits.items():
            drawn = draw(len(split), MOST_TOKENISED)
            if len(drawn) < len(split):
                sampled = f"Tokens are counted in {len(drawn):,} of {len(split):,} rows of the {name} split."
                section.sentences.append(sampled)
            lengths = _count_tokens(split.select(drawn) if len(drawn) < len(split) else split, tokenizer)
            shortest, median, p95, longest = np.quantile(lengths, [0, 0.5, 0.95, 1]).astype(int).tolist()
            cut = np.flatnonzero(lengths > limit)
            rows_cut = len(cut) / len(lengths)
            tokens_cut = float(np.maximum(lengths - limit, 0).sum() / lengths.sum())
            table.append((name, shortest, median, p95, longest, limit, percent(rows_cut, 1), percent(tokens_cut, 1)))
            section.facts.setdefault(name, {})["tokens"] = {
                "looked_at": len(lengths),
                "median": median,
                "p95": p95,
                "longest": longest,
                "max_length": limit,
                "rows_cut": rows_cut,
                "tokens_cut": tokens_cut,
            }
            if name == "train":
                section.tables.append(_histogram(lengths))
            if len(cut):
                section.add(
                    "text-cut",
                    "warning" if tokens_cut > _COSTLY else "info",
                    f"{percent(rows_cut, 1)} of the rows are longer than {limit} tokens; {percent(tokens_cut, 1)} of all tokens "
                    "are cut off",
                    where=f"{name} split",
                    rows=row_ids(split, drawn[cut]),
                    fix="raise --max_length if the checkpoint reads more, or put what matters first.",
                )
        columns = ("split", "shortest", "median", "95 of 100", "longest", "max_length", "rows cut", "tokens cut")
        section.tables.insert(0, Table("Tokens of a row", columns, table))


def inspect(splits: Splits, config: DataConfig) -> TextInspection:
    """Find empty texts, ones without letters and damaged ones."""
    section = Section("Texts", "texts")
    # A column's name as the user wrote it; the first one if several make one text.
    own_names = {standard: own for own, standard in reversed(splits.inputs.items())}
    for name, split in splits.items():
        section.facts[name] = {}
        for column in columns_of(splits.train):
            wrong = _wrong_rows(split, column)
            section.facts[name][column] = {code: len(rows) for code, rows in wrong.items()}
            for code, severity, what, fix in _WRONG:
                rows = wrong[code]
                if not len(rows):
                    continue
                all_of_them = code == "text-empty" and name == "train" and len(rows) == len(split)
                section.add(
                    code,
                    "error" if all_of_them else severity,
                    f"{len(rows):,} of {len(split):,} texts ({percent(len(rows), len(split))}) {what}",
                    where=f"{name} split, column {own_names.get(column, column)!r}",
                    rows=row_ids(split, rows),
                    fix=fix,
                )
    return TextInspection(section, splits)


def _texts(splits: Splits, rows: pd.DataFrame) -> pa.Array:
    """Return the texts of some rows (pairs as one text) as one Arrow array."""
    columns = columns_of(splits.train)
    parts: list[pa.Array] = []
    for name in rows["split"].unique():
        chosen = getattr(splits, name).select(rows.loc[rows["split"] == name, "row"].to_numpy())
        for table in tables(chosen, columns):
            cells = [pc.cast(table[column], pa.large_string()) for column in columns]
            parts.append(pc.binary_join_element_wise(*cells, pa.scalar(" ", pa.large_string())).combine_chunks())
    return pa.concat_arrays(parts) if parts else pa.array([], pa.large_string())


def _wrong_rows(split: Any, column: str) -> dict[str, np.ndarray]:
    """Return the rows of each code in ``_WRONG``, in its order."""
    flags = []
    for table in tables(split, [column]):
        empty = pc.equal(pc.utf8_trim_whitespace(table[column]), "").to_numpy()
        letters = pc.match_substring_regex(table[column], r"\pL").to_numpy()
        damaged = pc.match_substring_regex(table[column], _DAMAGED).to_numpy()
        flags.append(np.stack([empty, ~letters & ~empty, damaged]))
    return {code: np.flatnonzero(wrong) for (code, *_), wrong in zip(_WRONG, np.hstack(flags), strict=True)}


def _count_tokens(split: Any, tokenizer: Any) -> np.ndarray:
    """Return the tokens of every row without truncation, with special tokens, shape (rows,)."""
    columns = columns_of(split)
    lengths: list[int] = []
    for table in tables(split, columns, 1000):
        texts = [table[column].to_pylist() for column in columns]
        tokens = tokenizer(*texts, truncation=False, return_attention_mask=False, verbose=False)["input_ids"]
        lengths += map(len, tokens)
    return np.array(lengths, dtype=np.int64)


def _histogram(lengths: np.ndarray) -> Table:
    edges = np.unique(np.linspace(lengths.min(), lengths.max() + 1, 16).astype(int))
    heights, _ = np.histogram(lengths, bins=edges)
    bars = [(f"{low} to {high - 1}", int(n)) for n, low, high in zip(heights, edges, edges[1:], strict=False)]
    return Table("Training rows by tokens", ("tokens", "rows"), bars, bars=True)
