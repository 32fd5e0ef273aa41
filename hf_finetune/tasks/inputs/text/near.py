"""Find near-duplicate texts by MinHash: bands give candidates, which are then compared.

Sources: Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, ch. 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hf_finetune.data.rows.duplicates import similar_pairs

PERMUTATIONS, BANDS = 64, 16  # pairs that share 0.7 of their shingles meet in a band with probability 0.988
SIMILAR = 0.7  # Jaccard similarity of the word 3-shingles of two texts
_WORDS = 512  # of each text
_NEIGHBOURS = 8  # rows of a bucket to compare a row with
_CHUNK = 20_000  # rows or pairs at once
_MOST_EXACT = 100_000  # pairs to compare exactly; for more, the MinHash estimate decides
# Scripts without spaces between words: each character counts as a word.
_UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"


def near_texts(texts: Any) -> np.ndarray:
    """Return pairs of texts that share most of their word 3-shingles; case, punctuation and spaces are ignored.

    ``texts`` is an Arrow array of strings without missing values. Pairs are row numbers of shape (pairs, 2), the smaller
    first.
    """
    signatures, filled = minhash(texts)
    bands = np.split(signatures.astype(np.uint64), BANDS, axis=1)

    def similar(pairs: np.ndarray) -> np.ndarray:
        left, right = pairs.T
        same = (signatures[left] == signatures[right]).mean(axis=1)
        return filled[left] & (same >= SIMILAR - 0.1)  # its standard error is 0.06

    pairs = similar_pairs((np.where(filled, _mix(band), 0) for band in bands), _NEIGHBOURS, similar)
    exact = pairs[:_MOST_EXACT]
    return np.concatenate([exact[jaccard(texts, exact) >= SIMILAR], pairs[_MOST_EXACT:]])


def minhash(texts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest hash of each text's shingles per permutation, uint32 (rows, 64); and whether it has a word."""
    random = np.random.default_rng(0)
    factors = random.integers(1, 2**63, size=PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
    signatures = np.empty((len(texts), PERMUTATIONS), dtype=np.uint32)
    filled = np.empty(len(texts), dtype=bool)
    for start in range(0, len(texts), _CHUNK):
        rows = slice(start, start + _CHUNK)
        hashes, starts, filled[rows] = shingles(texts.slice(start, _CHUNK))
        for index, factor in enumerate(factors):
            values = (hashes * factor >> np.uint64(32)).astype(np.uint32)
            signatures[rows, index] = np.minimum.reduceat(values, starts)
    return signatures, filled


def shingles(texts: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hashes of all runs of three words (of all words, for shorter texts), concatenated.

    Also return the start of each text in them, and whether it has a word; both have the shape (rows,).
    """
    spaced = pc.replace_substring_regex(pc.utf8_lower(texts), _UNSPACED, r" \1 ")
    bare = pc.utf8_trim_whitespace(pc.replace_substring_regex(spaced, r"[^\pL\pN\pM]+", " "))
    lists = pc.list_slice(pc.utf8_split_whitespace(bare), 0, _WORDS)
    counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    words = lists.flatten().dictionary_encode()
    known = pd.util.hash_array(words.dictionary.to_numpy(zero_copy_only=False).astype(object), categorize=False)
    # Zeros for the places after the last text, which may be shorter than three words.
    hashes = np.concatenate([known[words.indices.to_numpy()], np.zeros(3, dtype=np.uint64)])
    runs = np.maximum(counts - 2, 1)
    starts = np.cumsum(runs) - runs
    ends = np.cumsum(counts)
    first = np.repeat(ends - counts - starts, runs) + np.arange(runs.sum())
    end = np.repeat(ends, runs)
    triple = np.stack([np.where(first + k < end, hashes[first + k], 0) for k in range(3)], axis=1)
    return _mix(triple), starts, pc.binary_length(bare).to_numpy(zero_copy_only=False) > 0


def jaccard(texts: Any, pairs: np.ndarray) -> np.ndarray:
    """Return the Jaccard similarity of the shingles of each pair, shape (pairs,)."""
    similar = np.empty(len(pairs))
    for start in range(0, len(pairs), _CHUNK):
        part = pairs[start : start + _CHUNK]
        rows, where = np.unique(part, return_inverse=True)
        hashes, starts, _ = shingles(texts.take(pa.array(rows)))
        sets = [np.unique(each) for each in np.split(hashes, starts[1:])]
        for index, (a, b) in enumerate(where.reshape(-1, 2)):
            shared = len(np.intersect1d(sets[a], sets[b], assume_unique=True))
            similar[start + index] = shared / (len(sets[a]) + len(sets[b]) - shared)
    return similar


def _mix(values: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each row of uint64 values, shape (rows,)."""
    result = np.full(len(values), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in values.T:
        result = (result ^ column) * np.uint64(0xBF58476D1CE4E5B9)
        result ^= result >> np.uint64(29)
    return result
