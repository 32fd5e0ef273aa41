"""Find near-duplicate images: equal parts of a perceptual hash give candidates, comparison of thumbnails decides."""

from __future__ import annotations

import numpy as np

from hf_finetune.data.rows.candidates import candidates, pair_codes, pairs_of

MOST_DISTANCE = 3  # differing bits of 64 between the hashes of near duplicates
_NEIGHBOURS = 30  # rows of a bucket to compare a row with


def near_images(hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Return pairs of images whose hashes differ in few bits and whose thumbnails are similar.

    Args:
        hashes: uint64 of shape (rows,).
        thumbnails: uint8 of shape (rows, 16, 16), grey.

    Returns:
        Row numbers of shape (pairs, 2), the smaller first.
    """
    found = []
    small = thumbnails.reshape(len(thumbnails), -1)
    for band in range(MOST_DISTANCE + 1):  # hashes that differ in 3 bits agree in at least one quarter
        keys = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        for pairs in candidates(keys, _NEIGHBOURS, hashes):
            left, right = pairs.T
            pairs = pairs[np.bitwise_count(hashes[left] ^ hashes[right]) <= MOST_DISTANCE]
            a, b = (small[rows].astype(np.int16) for rows in pairs.T)
            contrast = np.minimum(a.std(axis=1), b.std(axis=1))
            found.append(pair_codes(pairs[np.abs(a - b).mean(axis=1) <= 1 + 0.1 * contrast], len(hashes)))
    return pairs_of(found, len(hashes))
