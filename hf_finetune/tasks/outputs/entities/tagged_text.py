"""Texts with a tag for each word: the words and their logits, counts of entities, and kinds of errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_finetune.data.rows.finding import percent

IGNORED = -100  # the label of a token that no tag belongs to
ERRORS = ("missed", "spurious", "wrong type", "wrong boundary")
MOST_EXAMPLES = 3  # of each kind of error
SURE = 10.0  # the logit of a certain tag, for predictions without a model


@dataclass(frozen=True)
class TaggedText:
    """A text, its words, and a logit of each tag for each word; the raw output of one row."""

    text: str
    words: np.ndarray  # first character and the one after the last, shape (words, 2)
    logits: np.ndarray  # shape (words, tags)

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class TagStatistics:
    """Counts of each row; ``hits``, ``answered`` and ``true`` are entities of each type, shape (rows, types)."""

    hits: np.ndarray
    answered: np.ndarray
    true: np.ndarray
    words: np.ndarray  # shape (rows,), as the following
    right: np.ndarray  # words with the right tag
    losses: np.ndarray  # cross-entropy, summed over the words

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, rows: np.ndarray) -> TagStatistics:
        return TagStatistics(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def size(self) -> int:
        return int(self.hits.size)

    @property
    def class_rows(self) -> np.ndarray:
        """Return the rows with an entity of each type, shape (types,)."""
        return (self.true > 0).sum(axis=0)


def iob2(prefix: str, kind: int) -> int:
    """Return a tag in the order in which a run names them: O, B and I of the first type, B and I of the second, …"""
    return 1 + 2 * kind + (prefix == "I")


def tag_words(words: np.ndarray, spans: np.ndarray, tag: Callable[[str, int], int]) -> np.ndarray:
    """Return the tag of each word of a row, shape (words,): of the entity that it overlaps.

    ``words`` are characters, shape (words, 2), ``spans`` the entities, shape (entities, 3), ``tag`` a function of ``B`` or
    ``I`` and a type.
    """
    tags = np.zeros(len(words), dtype=np.int64)
    for start, end, kind in spans.tolist():
        own = np.flatnonzero((words[:, 0] < end) & (words[:, 1] > start))
        tags[own] = tag("I", kind)
        tags[own[:1]] = tag("B", kind)
    return tags


def errors_of(
    found: list[list[int]], true: list[list[int]]
) -> Iterable[tuple[str, list[int] | None, list[int] | None]]:
    """Yield the kind of each error of a row, with the true and the predicted entity.

    A predicted entity of the same characters with another type is a wrong type, one that overlaps a true entity a wrong
    boundary, and any other one spurious. A true entity that none of these is paired with is missed.
    """
    open_found = [span for span in found if span not in true]
    open_true = [span for span in true if span not in found]
    for kind, alike in (
        ("wrong type", lambda a, b: a[:2] == b[:2]),
        ("wrong boundary", lambda a, b: a[0] < b[1] and b[0] < a[1]),
    ):
        for span in list(open_found):
            pair = next((other for other in open_true if alike(span, other)), None)
            if pair is not None:
                open_found.remove(span)
                open_true.remove(pair)
                yield kind, pair, span
    yield from (("spurious", None, span) for span in open_found)
    yield from (("missed", span, None) for span in open_true)


def error_table(rows: np.ndarray, found: np.ndarray, true: np.ndarray, types: list[str]) -> dict[str, Any]:
    """Return columns and rows of a table: the number of errors of each kind, with examples.

    ``rows`` are the judged :class:`TaggedText`, ``found`` and ``true`` their entities.
    """
    errors: dict[str, list[tuple[str, str]]] = {kind: [] for kind in ERRORS}
    for row, answered, given in zip(rows, found, true, strict=True):
        for kind, *pair in errors_of(answered.tolist(), given.tolist()):
            one, other = (
                "nothing" if span is None else f"{row.text[span[0] : span[1]]} ({types[span[2]]})" for span in pair
            )
            errors[kind].append((one, other))
    total = sum(map(len, errors.values()))
    cells = [
        [kind, len(each), percent(len(each), total), "; ".join(map(" → ".join, each[:MOST_EXAMPLES]))]
        for kind, each in errors.items()
    ]
    return {"columns": ["error", "entities", "share", "examples (true → predicted)"], "rows": cells}


def mark(text: str, entities: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    """Return a text in parts, each with the type of its entity, or None."""
    found: list[tuple[str, str | None]] = []
    at = 0
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        found += [(text[at : entity["start"]], None), (text[entity["start"] : entity["end"]], entity["label"])]
        at = entity["end"]
    return [part for part in [*found, (text[at:], None)] if part[0]]


def cross_entropy(logits: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of each word, shape (words,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(tags)), tags]
