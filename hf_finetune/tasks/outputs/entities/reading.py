"""Read entities from tags of words, and from spans of characters, as annotation tools write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset

from hf_finetune.console import say
from hf_finetune.errors import UserError
from hf_finetune.tasks.outputs.entities.schemes import entities, find_scheme
from hf_finetune.tasks.outputs.reading import class_names

Span = tuple[int, int, str]  # first character, character after the last one, and type

_TYPES = ("label", "type", "tag", "entity", "entity_group", "labels")  # keys of the type in an object


@dataclass
class Oddities:
    """What was converted while reading, for messages."""

    broken: int = 0  # tags that break the scheme
    overlapping: int = 0  # entities that overlap a longer one, and are left out
    scheme: str | None = None  # of tags of words; None for spans of characters
    faults: dict[int, str] = field(default_factory=dict)  # row → why it cannot be read


def say_odd(odd: Oddities, split_name: str) -> None:
    """Print how many tags and entities of a split were odd."""
    if odd.broken:
        say(
            f"{odd.broken:,} tags of the {split_name} rows continue or end no entity; they begin or end one of their own."
        )
    if odd.overlapping:
        say(f"{odd.overlapping:,} entities of the {split_name} rows overlap a longer one, and are left out.")


def join_words(words: list[Any]) -> str:
    """Return the text of a row of words."""
    return " ".join("" if word is None else str(word) for word in words)


def read_entities(split: Dataset, columns: list[str], scheme: str | None = None) -> tuple[list[list[Span]], Oddities]:
    """Return the entities of each row, in order, and what is odd about them.

    Args:
        split: the rows.
        columns: the column of the entities, and that of the words or of the text.
        scheme: that of the training rows; found from these rows without it.
    """
    cells, sources = split[columns[0]][:], split[columns[1]][:]
    named = class_names(split, columns[0])
    rows = [_cell(cell) for cell in cells]
    words = any(isinstance(source, list) for source in sources)
    odd = Oddities()
    if words:
        tags = [[named[t] if named and isinstance(t, int) else str(t) for t in row] for row in rows]
        odd.scheme = scheme or find_scheme(tags)
    found: list[list[Span]] = []
    for number, source in enumerate(sources):
        try:
            own = _of_words(source or [], tags[number], odd) if words else _of_characters(source or "", rows[number])
        except ValueError as error:
            odd.faults[number] = str(error)
            own = []
        found.append(_apart(own, odd))
    return found, odd


def refuse_faults(odd: Oddities, split_name: str, column: str) -> None:
    """Refuse the first row whose entities cannot be read."""
    if odd.faults:
        row, what = next(iter(odd.faults.items()))
        more = f", and {len(odd.faults) - 1} more rows like it" if len(odd.faults) > 1 else ""
        raise UserError(
            f"row {row + 1}: {what}{more}",
            where=f"{split_name} split, column {column!r}",
            fix="fix the row, or leave such rows out with --on_bad_row skip.",
        )


def _cell(cell: Any) -> list[Any]:
    """Return the list in a cell, which may be written as JSON; no entities for an empty cell."""
    if isinstance(cell, str):
        text = cell.strip()
        if not text.startswith("["):
            return text.split()
        try:
            cell = json.loads(text)
        except ValueError:
            return [text]
    return list(cell) if isinstance(cell, (list, tuple)) else []


def _of_words(words: list[Any], tags: list[str], odd: Oddities) -> list[Span]:
    if len(words) != len(tags):
        raise ValueError(f"{len(words)} words and {len(tags)} tags")
    found, broken = entities(tags, odd.scheme or "IOB2")
    odd.broken += broken
    ends, at = [], 0
    for word in words:
        at += len("" if word is None else str(word))
        ends.append(at)
        at += 1  # the space
    starts = [0, *(end + 1 for end in ends)]
    return [(starts[first], ends[after - 1], kind) for first, after, kind in found if ends[after - 1] > starts[first]]


def _of_characters(text: str, cell: list[Any]) -> list[Span]:
    found = []
    for entity in cell:
        start, end, kind = _span(entity)
        if isinstance(entity, dict) and entity.get("text") not in (None, "", text[start:end]):
            start, end = _from_utf16(text, start, end, entity["text"])
        if not 0 <= start < end <= len(text):
            raise ValueError(f"an entity from {start} to {end} in a text of {len(text)} characters")
        inside = text[start:end]
        start, end = start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())
        if start < end:
            found.append((start, end, kind))
    return found


def _from_utf16(text: str, start: int, end: int, inside: Any) -> tuple[int, int]:
    """Return ``start`` and ``end`` in characters if they count an emoji as two, as Label Studio does (its issue 1347)."""
    units = text.encode("utf-16-le")
    if start < 0 or units[2 * start : 2 * end] != str(inside).encode("utf-16-le"):
        return start, end
    return len(units[: 2 * start].decode("utf-16-le")), len(units[: 2 * end].decode("utf-16-le"))


def _span(entity: Any) -> Span:
    """Return start, end and type of ``{"start", "end", "label"}`` or ``[start, end, label]``."""
    if isinstance(entity, dict):
        kind = next((entity[key] for key in _TYPES if entity.get(key)), None)
        values = [entity.get("start", entity.get("start_offset")), entity.get("end", entity.get("end_offset")), kind]
    else:
        values = list(entity) if isinstance(entity, (list, tuple)) else [entity]
    if len(values) == 3 and isinstance(values[2], list) and len(values[2]) == 1:
        values[2] = values[2][0]
    match values:
        case [int(start), int(end), str() | int() as kind] if kind != "" and not isinstance(start, bool):
            return start, end, str(kind)
    raise ValueError(f"{str(entity)[:60]} is not an entity with start, end and label")


def _apart(found: list[Span], odd: Oddities) -> list[Span]:
    """Return entities that do not overlap, in order: of two that do, the longer one."""
    kept: list[Span] = []
    for span in sorted(set(found), key=lambda span: (span[0] - span[1], span)):
        if any(span[0] < other[1] and other[0] < span[1] for other in kept):
            odd.overlapping += 1
        else:
            kept.append(span)
    return sorted(kept)


def texts_of(split: Any, column: str) -> Iterator[str]:
    """Yield the text of each row: as it is, or of its words."""
    for cell in split[column][:]:
        yield join_words(cell) if isinstance(cell, list) else cell or ""


# Letters and digits, or one other character: as BERT splits a text before it looks for pieces of words.
_WORDS = re.compile(r"[^\W_]+|[^\w\s]|_")


def words_of(text: str) -> np.ndarray:
    """Return the first character of each word of a text and the one after its last, shape (words, 2)."""
    return np.array([match.span() for match in _WORDS.finditer(text)], dtype=np.int64).reshape(-1, 2)
