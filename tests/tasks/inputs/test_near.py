"""Near duplicates: what is found, what is not, and that crowded buckets stay bounded."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from hf_finetune.data.rows import duplicates
from hf_finetune.tasks.inputs.image.checks import near_images
from hf_finetune.tasks.inputs.text import near


def jaccard_of(a: str, b: str) -> float:
    def runs(text):
        words = text.split()
        return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}

    return len(runs(a) & runs(b)) / len(runs(a) | runs(b))


def random_texts(count: int, words: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"w{i}" for i in row) for row in random.integers(0, 3000, (count, words))]


def test_case_punctuation_and_spaces_count_for_nothing():
    texts = ["A very good film, I think", "a VERY good film   I think!!", "another one altogether", "hi", "Hi."]
    assert near.near_texts(pa.array(texts)).tolist() == [[0, 1], [3, 4]]


def test_texts_without_words_are_no_duplicates_of_each_other():
    assert near.near_texts(pa.array(["", "!!", "…", "🙂"])).tolist() == []


def test_texts_written_without_spaces_are_compared_by_character():
    texts = ["我喜欢这部电影非常好看", "我喜欢这部电影非常好看。", "今天天气很不错我们出去玩吧"]
    assert near.near_texts(pa.array(texts)).tolist() == [[0, 1]]


def test_planted_pairs_are_found_among_many_and_nothing_else():
    texts = random_texts(3000, 40)
    planted = {(10, 2010): 1, (500, 2500): 2, (700, 2999): 0}
    for (a, b), changed in planted.items():
        words = texts[a].split()
        words[:changed] = [f"x{i}" for i in range(changed)]
        texts[b] = " ".join(words).upper()
    assert [tuple(pair) for pair in near.near_texts(pa.array(texts)).tolist()] == sorted(planted)


def test_similarity_is_the_share_of_word_triples_that_both_have():
    a, b = "one two three four five six", "one two three four five seven"
    assert near.jaccard(pa.array([a, b]), np.array([[0, 1]])) == pytest.approx(jaccard_of(a, b))
    assert near.near_texts(pa.array([a, b])).tolist() == []  # 3 of 5


def test_a_crowded_bucket_is_compared_with_next_neighbours_only(monkeypatch):
    monkeypatch.setattr(duplicates, "_CHUNK", 64)
    pairs = near.near_texts(pa.array(["the same words in every row"] * 500))
    assert 499 <= len(pairs) <= 500 * 8
    assert set(pairs.ravel().tolist()) == set(range(500))


def test_hashes_that_differ_in_few_bits_are_pairs_if_the_images_look_alike():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, 300, dtype=np.uint64)
    small = random.integers(0, 255, (300, 16, 16)).astype(np.uint8)
    hashes[50] = hashes[9] ^ np.uint64(1 << 3 | 1 << 20 | 1 << 60)  # three bits, in three of the four bands
    small[50] = np.clip(small[9].astype(int) + 2, 0, 255)
    hashes[70] = hashes[8]  # the same hash, another image
    hashes[90], small[90] = hashes[7] ^ np.uint64(0b1111), small[7]  # four bits
    assert near_images(hashes, small).tolist() == [[9, 50]]
