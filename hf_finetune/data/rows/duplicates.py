"""Find rows with the same input, and pairs of similar rows among those with equal keys, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset

from hf_finetune.data.protocols import RowInput
from hf_finetune.data.rows.finding import MOST_NAMED, Section, percent
from hf_finetune.data.splits.splits import Splits

_CHUNK = 20_000  # rows or pairs in memory at once
_NAMED = 4  # name all rows of groups up to this size


def keyed_rows(splits: Splits, rows: RowInput) -> pd.DataFrame:
    """Return ``split``, ``row`` (index in the split), ``label`` and ``key`` (numbers, equal for equal ones) of every row."""
    named = dict(splits.items())
    keys = rows.row_keys(named)
    parts = []
    for name, split in named.items():
        labels = label_codes(splits.output.truth_of(split))
        parts.append(pd.DataFrame({"split": name, "row": np.arange(len(split)), "label": labels, "key": keys[name]}))
    return pd.concat(parts, ignore_index=True)


def find_duplicates(keyed: pd.DataFrame) -> pd.DataFrame:
    """Return the keyed rows whose input occurs more than once, sorted by ``group`` (one number per input) and split."""
    found = keyed[keyed.duplicated("key", keep=False)]
    found.insert(0, "group", pd.factorize(found["key"])[0])
    return found.drop(columns="key").sort_values("group", kind="stable", ignore_index=True)


def add_duplicates(section: Section, splits: Splits, exact: pd.DataFrame) -> None:
    """Add training inputs that are all equal, rows that are in two splits, and equal inputs with different labels."""
    train = exact.loc[exact["split"] == "train", "group"]
    if 1 < len(train) == len(splits.train) and train.nunique() == 1:
        section.add(
            "input-constant",
            "error",
            f"all {len(train):,} training rows have the same input: there is nothing to learn from",
            where="train split",
            fix="name the column of the input: --text_column for texts, --image_column for images.",
        )
    add_leaks(section, splits, crossing(exact), "leak-exact", "are also")
    add_conflicts(section, splits, exact, "labels-conflict", "inputs")


def add_leaks(section: Section, splits: Splits, shared: pd.DataFrame, code: str, words: str) -> None:
    """Add held-out rows that are also in training or in the other held-out split."""
    for held, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        groups = shared.loc[shared["split"] == other, "group"]
        leaked = shared[(shared["split"] == held) & shared["group"].isin(groups)]
        if not len(leaked):
            continue
        count, size = leaked["row"].nunique(), len(getattr(splits, held))
        both = shared[shared["group"].isin(leaked["group"]) & shared["split"].isin([held, other])]
        section.add(
            code,
            "warning",
            f"{count:,} rows of the {held} split ({percent(count, size)}) {words} rows of the {other} split",
            where=f"{held} split",
            rows=name_groups(splits, both, MOST_NAMED),
            fix=f"drop them from the {other} split: figures of the {held} split are too good with them.",
        )


def add_conflicts(section: Section, splits: Splits, rows: pd.DataFrame, code: str, what: str) -> None:
    """Add groups with more than one label; none for numbers, which may differ for many reasons."""
    clash = rows[rows.groupby("group")["label"].transform("nunique") > 1] if splits.output.HAS_CLASSES else rows[:0]
    if len(clash):
        section.add(
            code,
            "warning",
            f"{clash['group'].nunique():,} {what} occur with different labels",
            where=" and ".join(name for name, _ in splits.items() if name in set(clash["split"])),
            rows=name_groups(splits, clash, MOST_NAMED),
            fix="decide which label is right; if both are, the rows have several labels.",
        )


def crossing(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of groups that are in more than one split."""
    return rows[rows.groupby("group")["split"].transform("nunique") > 1]


def name_groups(splits: Splits, rows: pd.DataFrame, most: int) -> list[str]:
    """Return the first groups in words, ``train 7 (metal) = test 12 (glass)``; large ones with a row per split and label."""
    whole = rows[rows["group"].isin(rows["group"].unique()[:most])]
    sizes = whole.groupby("group").size()
    few = whole["group"].map(sizes) <= _NAMED
    telling = whole.groupby(["group", "split", "label"]).cumcount() < 1
    chosen = whole[few | telling].groupby("group").head(2 * _NAMED)
    sentences = []
    for number, group in chosen.groupby("group", sort=False):
        cells = [(name, getattr(splits, name)[row]) for name, row in zip(group["split"], group["row"], strict=True)]
        words = " = ".join(f"{name} {cell['id']} ({splits.output.spell(cell['label'])})" for name, cell in cells)
        sentences.append(words + (f" (of {sizes[number]} rows)" if len(group) < sizes[number] else ""))
    return sentences


def label_codes(truth: np.ndarray) -> np.ndarray:
    """Return a number per row, equal for equal labels in every split, int64 of shape (rows,).

    ``truth`` has the shape (rows,) or (rows, labels), or is an array per row.
    """
    if truth.ndim == 1 and truth.dtype != object:
        return truth.astype(np.int64)
    digests = (hashlib.blake2b(np.asarray(row).tobytes(), digest_size=8).digest() for row in truth)
    return np.frombuffer(b"".join(digests), dtype=np.int64)


def tables(split: Dataset, columns: list[str], rows: int = _CHUNK) -> Iterator[pa.Table]:
    """Yield columns of a split as Arrow tables of at most ``rows`` rows, in order.

    Ascending selections are taken from slices of the underlying table: ``datasets`` takes seconds for a million texts.
    """
    whole = split.data.table.select(columns)
    if split._indices is None:
        yield from (whole.slice(start, rows) for start in range(0, len(split), rows))
        return
    chosen = split._indices.column(0).to_numpy()
    if (np.diff(chosen.astype(np.int64)) <= 0).any():
        yield from (whole.take(pa.array(chosen[start : start + rows])) for start in range(0, len(chosen), rows))
        return
    for start in range(0, whole.num_rows, rows):
        low, high = np.searchsorted(chosen, [start, start + rows])
        if low < high:
            yield whole.slice(start, rows).take(pa.array(chosen[low:high] - start))


def similar_pairs(
    bands: Iterable[np.ndarray],
    neighbours: int,
    similar: Callable[[np.ndarray], np.ndarray],
    then: np.ndarray | None = None,
) -> np.ndarray:
    """Return the pairs of rows with the same key in a band that are similar, shape (pairs, 2), the smaller row first.

    Each band is the keys of all rows, shape (rows,); ``similar`` is a function from pairs to a mask. Time and memory are linear
    in the rows for any data: among rows with one key, sorted by ``then``, a row is compared only with its next neighbours.
    """
    codes = [np.empty(0, dtype=np.int64)]
    rows = 1
    for keys in bands:
        rows = max(len(keys), 1)
        order = np.argsort(keys, kind="stable") if then is None else np.lexsort((then, keys))
        ordered = keys[order]
        for step in range(1, neighbours + 1):
            places = np.flatnonzero(ordered[:-step] == ordered[step:])
            for start in range(0, len(places), _CHUNK):
                part = places[start : start + _CHUNK]
                pairs = np.sort(np.stack([order[part], order[part + step]], axis=1), axis=1)
                codes.append(pairs[similar(pairs)] @ [rows, 1])  # a pair as one number, which is sorted fast
    return np.stack(np.divmod(np.unique(np.concatenate(codes)), rows), axis=1)
