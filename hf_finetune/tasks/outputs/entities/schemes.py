"""Tag sequences in the schemes IOB1, IOB2, BIOES (or BILOU) and without prefixes, and the entities in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

OUTSIDE = "O"
_SAME = {"L": "E", "U": "S"}  # letters of BILOU
_BEGIN, _END = frozenset("BS"), frozenset("ES")

Entity = tuple[int, int, str]  # first word, word after the last one, and type


def parts(tag: str, *, prefixed: bool = True) -> tuple[str, str]:
    """Return prefix (``B``, ``I``, ``E`` or ``S``; empty outside) and type of a tag; without prefixes it is ``I``."""
    if tag in (OUTSIDE, ""):
        return "", ""
    if not prefixed:
        return "I", tag
    return _SAME.get(tag[0], tag[0]), tag[2:]


def find_scheme(rows: Iterable[Sequence[str]]) -> str:
    """Return the scheme of the tags of all rows: ``IOB1``, ``IOB2``, ``BIOES`` or ``IO`` (types without prefixes).

    IOB1 begins an entity with I, and with B only directly after another of its type. A single entity that begins with B
    after anything else makes the tags IOB2, in which an I at the beginning is a mistake.
    """
    tags = {tag for row in rows for tag in row} - {OUTSIDE, ""}
    if not all(len(tag) > 2 and tag[0] in "BIESLU" and tag[1] in "-_" for tag in tags):
        return "IO"
    if any(tag[0] in "ESLU" for tag in tags):
        return "BIOES"
    begins = {"B": 0, "I": 0}
    for row in rows:
        before = ""
        for prefix, kind in map(parts, row):
            if kind and kind != before:
                begins[prefix] += 1
            before = kind
    return "IOB1" if begins["I"] and not begins["B"] else "IOB2"


def entities(tags: Sequence[str], scheme: str = "IOB2") -> tuple[list[Entity], int]:
    """Return the entities of a row, and how many of its tags break the scheme.

    A tag that continues nothing begins an entity, as in conlleval and in the pipeline of transformers.
    """
    found: list[Entity] = []
    begun, open_type, broken = 0, "", 0
    closed = True  # whether the open entity ended with E or S
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = parts(tag, prefixed=scheme != "IO")
        goes_on = bool(kind) and kind == open_type and prefix not in _BEGIN and not (scheme == "BIOES" and closed)
        if not goes_on:
            if open_type:
                found.append((begun, place, open_type))
                broken += scheme == "BIOES" and not closed
            broken += bool(kind) and prefix not in _BEGIN and scheme in ("IOB2", "BIOES")
            begun, open_type = place, kind
        closed = prefix in _END
    return found, broken
