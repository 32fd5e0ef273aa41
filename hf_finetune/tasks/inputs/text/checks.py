"""Check texts: empty and damaged ones, and what truncation at ``--max_length`` loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.rows.columns import TEXT_NAMES
from hf_finetune.data.rows.duplicates import tables
from hf_finetune.data.rows.finding import MOST_NAMED, Section, Severity, Table, draw, percent, row_ids
from hf_finetune.tasks.inputs.text.near import near_texts
from hf_finetune.tasks.inputs.text.row_input import columns_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MOST_TOKENISED = 20_000  # rows per split to tokenise
_COSTLY = 0.05  # share of truncated tokens from which they are a warning
_BATCH = 1000

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
    """Return why a column is read; ``number`` is its place among the input columns."""
    if number:
        return "named by --text_pair_column"
    if config.text_column:
        return "named by --text_column"
    return (
        "a usual name of texts" if own.strip().lower() in TEXT_NAMES else "the only column of strings beside the label"
    )


@dataclass(frozen=True)
class TextInspection:
    """The section of ``check`` on texts, and the splits unchanged, because every text can be read."""

    section: Section
    splits: Splits

    def comparable(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return all rows: every text can be compared."""
        return rows

    def near(self, rows: pd.DataFrame) -> np.ndarray:
        """Return pairs of near duplicates as positions in ``rows``, shape (pairs, 2)."""
        return near_texts(_texts(self.splits, rows))

    def add_processor(self, tokenizer: Any) -> None:
        """Add the loss from truncation at ``--max_length``."""
        say("Counting tokens.")
        check_lengths(self.section, self.splits, tokenizer)


def inspect(splits: Splits, config: DataConfig) -> TextInspection:
    """Inspect every text."""
    return TextInspection(check_texts(splits), splits)


def _texts(splits: Splits, rows: pd.DataFrame) -> pa.Array:
    """Return the texts of some rows (pairs as one text) as one Arrow array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = columns_of(splits.train)
    parts: list[pa.Array] = []
    for name in rows["split"].unique():
        chosen = getattr(splits, name).select(rows.loc[rows["split"] == name, "row"].to_numpy())
        for table in tables(chosen, columns):
            cells = [pc.cast(table[column], pa.large_string()).combine_chunks() for column in columns]
            parts.append(pc.binary_join_element_wise(*cells, pa.scalar(" ", pa.large_string())))
    return pa.concat_arrays([_plain(part) for part in parts]) if parts else pa.array([], pa.large_string())


def _plain(part: pa.Array | pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    return part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part


def check_texts(splits: Splits) -> Section:
    """Return the section on texts: empty ones, ones without letters and damaged ones."""
    section = Section("Texts", "texts")
    columns = columns_of(splits.train)
    for name, split in splits.items():
        for column in columns:
            wrong = _wrong_rows(split, column)
            for code, severity, what, fix in _WRONG:
                rows = wrong[code]
                section.facts.setdefault(name, {}).setdefault(column, {})[code] = len(rows)
                if not len(rows):
                    continue
                all_of_them = code == "text-empty" and name == "train" and len(rows) == len(split)
                section.add(
                    code,
                    "error" if all_of_them else severity,
                    f"{len(rows):,} of {len(split):,} texts ({percent(len(rows), len(split))}) {what}",
                    where=f"{name} split, column {_own_name(splits, column)!r}",
                    rows=row_ids(split, rows, MOST_NAMED),
                    fix=fix,
                )
    return section


def _own_name(splits: Splits, column: str) -> str:
    """Return the user's name of an input column, the first one if several make one text."""
    return next((own for own, standard in splits.inputs.items() if standard == column), column)


def _wrong_rows(split: Any, column: str) -> dict[str, np.ndarray]:
    import pyarrow.compute as pc

    found: dict[str, list[np.ndarray]] = {code: [] for code, *_ in _WRONG}
    start = 0
    for table in tables(split, [column]):
        texts = table[column].combine_chunks()
        empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0).to_numpy(zero_copy_only=False)
        letters = pc.match_substring_regex(texts, r"\pL").to_numpy(zero_copy_only=False)
        damaged = pc.match_substring_regex(texts, _DAMAGED).to_numpy(zero_copy_only=False)
        for code, flags in zip(found, (empty, ~letters & ~empty, damaged), strict=True):
            found[code].append(np.flatnonzero(flags) + start)
        start += len(texts)
    return {code: np.concatenate(parts) for code, parts in found.items()}


def check_lengths(section: Section, splits: Splits, tokenizer: Any) -> None:
    """Add the number of tokens and the share of truncated rows and tokens to the section."""
    limit = int(tokenizer.model_max_length)
    rows = []
    for name, split in splits.items():
        drawn = draw(len(split), MOST_TOKENISED)
        if len(drawn) < len(split):
            section.sentences.append(
                f"Tokens are counted in {len(drawn):,} of {len(split):,} rows of the {name} split."
            )
        lengths = count_tokens(split.select(drawn) if len(drawn) < len(split) else split, tokenizer)
        cut = lengths > limit
        lost = np.maximum(lengths - limit, 0).sum()
        points = np.quantile(lengths, [0, 0.5, 0.95, 1]).astype(int)
        rows.append((name, *points.tolist(), limit, percent(cut.sum(), len(cut)), percent(lost, lengths.sum())))
        section.facts.setdefault(name, {})["tokens"] = {
            "looked_at": len(lengths),
            "median": int(points[1]),
            "p95": int(points[2]),
            "longest": int(points[3]),
            "max_length": limit,
            "rows_cut": float(cut.mean()),
            "tokens_cut": float(lost / lengths.sum()),
        }
        if name == "train":
            section.tables.append(_histogram(lengths))
        if cut.any():
            _say_cut(section, name, split, drawn[np.flatnonzero(cut)], len(drawn), float(lost / lengths.sum()), limit)
    columns = ("split", "shortest", "median", "95 of 100", "longest", "max_length", "rows cut", "tokens cut")
    section.tables.insert(0, Table("Tokens of a row", columns, rows))


def _say_cut(section: Section, name: str, split: Any, rows: np.ndarray, of: int, lost: float, limit: int) -> None:
    section.add(
        "text-cut",
        "warning" if lost > _COSTLY else "info",
        f"{percent(len(rows), of)} of the rows are longer than {limit} tokens; {percent(lost, 1)} of all tokens are cut off",
        where=f"{name} split",
        rows=row_ids(split, rows),
        fix="raise --max_length if the checkpoint reads more, or put what matters first.",
    )


def count_tokens(split: Any, tokenizer: Any) -> np.ndarray:
    """Return the tokens of every row without truncation, with special tokens, shape (rows,)."""
    columns = columns_of(split)
    lengths = []
    for table in tables(split, columns, _BATCH):
        texts = [table[column].to_pylist() for column in columns]
        tokens = tokenizer(*texts, truncation=False, return_attention_mask=False, verbose=False)["input_ids"]
        lengths += [len(ids) for ids in tokens]
    return np.array(lengths, dtype=np.int64)


def _histogram(lengths: np.ndarray) -> Table:
    edges = np.unique(np.linspace(lengths.min(), lengths.max() + 1, 16).astype(int))
    heights, _ = np.histogram(lengths, bins=edges)
    bars = [(f"{low} to {high - 1}", int(n)) for n, low, high in zip(heights, edges, edges[1:], strict=False)]
    return Table("Training rows by tokens", ("tokens", "rows"), bars, bars=True)
