"""Features of the baseline of texts: tf-idf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hf_finetune.console import say
from hf_finetune.tasks.inputs.text.columns import columns_of

baseline_name: str = "tf-idf and {linear}"
_MOST_TERMS = 200_000


def baseline_features(parts: dict[str, Any], backbone: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return tf-idf of words and pairs of words; of pairs of texts that of both, and their cosine.

    Args:
        parts: splits by name; ``train`` is what the terms are taken from.
        backbone: gives the features of the untouched backbone instead.

    Returns:
        A sparse matrix of shape (rows, features) for each part; None where the texts hold no words.
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    columns = columns_of(parts["train"])
    texts = {name: [split[column][:] for column in columns] for name, split in parts.items()}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), max_features=_MOST_TERMS, token_pattern=r"(?u)\b\w+\b")
    everything = [text for column in texts["train"] for text in column]
    tokens = vectorizer.build_analyzer()
    if not any(tokens(text) for text in everything):
        say("No baseline: the texts hold no words.")
        return None
    vectorizer.fit(everything)
    found = {}
    for name, each in texts.items():
        vectors = [vectorizer.transform(column) for column in each]
        if len(vectors) == 2:
            vectors.append(csr_matrix(vectors[0].multiply(vectors[1]).sum(axis=1)))
        found[name] = hstack(vectors).tocsr() if len(vectors) > 1 else vectors[0]
    return found
