"""The baseline of entities: the most frequent tag of each word."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset

from hf_finetune.data.splits.splits import ragged
from hf_finetune.tasks.outputs.entities.reading import words_of
from hf_finetune.tasks.outputs.entities.tagged_text import SURE, TaggedText

if TYPE_CHECKING:
    from hf_finetune.tasks.outputs.entities.tags import Tags


def usual_tags(output: Tags, train: Dataset) -> Callable[[Dataset], np.ndarray]:
    """Return a function from rows to the most frequent tag of each word in the training rows; unknown words have none."""
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(output.names)))
    for text, true in zip(train["text"][:], output.truth_of(train), strict=True):
        words = words_of(text)
        for (start, end), tag in zip(words.tolist(), output.tags_of(words, true).tolist(), strict=True):
            counts[text[start:end]][tag] += 1
    usual = {word: int(own.argmax()) for word, own in counts.items()}

    def answer(split: Dataset) -> np.ndarray:
        rows = []
        for text in split["text"][:]:
            words = words_of(text)
            tags = [usual.get(text[start:end], 0) for start, end in words.tolist()]
            rows.append(TaggedText(text, words, SURE * np.eye(len(output.names))[np.array(tags, dtype=int)]))
        return ragged(rows)

    return answer
