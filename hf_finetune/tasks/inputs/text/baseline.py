"""Features for the baseline of texts: tf-idf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hf_finetune.console import say
from hf_finetune.tasks.inputs.text.row_input import columns_of

_MOST_TERMS = 200_000


def baseline_features(parts: dict[str, Any], backbone: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return split → tf-idf features of words and bigrams as a sparse matrix, those of pairs with their cosine.

    The vocabulary is that of ``train``; None if its texts contain no words. ``backbone`` is not used.
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    columns = columns_of(parts["train"])
    texts = {name: [split[column][:] for column in columns] for name, split in parts.items()}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), max_features=_MOST_TERMS, token_pattern=r"(?u)\b\w+\b")
    everything = [text for column in texts["train"] for text in column]
    tokens = vectorizer.build_analyzer()
    if not any(tokens(text) for text in everything):
        say("No baseline: the texts contain no words.")
        return None
    vectorizer.fit(everything)
    found = {}
    for name, each in texts.items():
        vectors = [vectorizer.transform(column) for column in each]
        if len(vectors) == 2:
            vectors.append(csr_matrix(vectors[0].multiply(vectors[1]).sum(axis=1)))
        found[name] = hstack(vectors).tocsr() if len(vectors) > 1 else vectors[0]
    return found
