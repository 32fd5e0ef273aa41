"""Entities in tables and messages, and what is suspicious about them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from hf_finetune.data import Splits
from hf_finetune.data.rows.finding import MOST_NAMED, percent, row_ids

FEW = 10  # training entities of a type
TRAIN = "train split"


def entity_table(output: Any, splits: Splits) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return rows, rows with entities, and entities of each type in each split."""
    rows = []
    for name, split in splits.items():
        truth = output.truth_of(split)
        counts = [f"{count:,}" for count in output.counts(truth)]
        rows.append((name, f"{len(split):,}", f"{sum(len(row) > 0 for row in truth):,}", *counts))
    return ("split", "rows", "with entities", *output.types), rows


def type_notes(output: Any, splits: Splits) -> list[str]:
    """Return a note on types without training entities."""
    counts = output.counts(output.truth_of(splits.train))
    missing = [kind for kind, count in zip(output.types, counts, strict=True) if not count]
    return [f"There are no training entities of {', '.join(missing)}."] if missing else []


def check_entities(output: Any, section: Any, splits: Splits) -> None:
    """Add entities by type, and findings on missing and rare types, texts of several types, and rows without entity."""
    section.table("", *entity_table(output, splits))
    truths = {name: output.truth_of(split) for name, split in splits.items()}
    counts = {name: output.counts(truth) for name, truth in truths.items()}
    section.facts["entities"] = {kind: {n: int(c[i]) for n, c in counts.items()} for i, kind in enumerate(output.types)}
    for name, found in counts.items():
        missing = [kind for kind, count in zip(output.types, found, strict=True) if not count]
        if missing:
            what = f"{len(missing)} types have no entity: {', '.join(missing)}"
            fix = "add rows with them; figures of these types rest on nothing."
            section.add("type-missing", "warning", what, where=f"{name} split", rows=missing, fix=fix)
    few = [kind for kind, count in zip(output.types, counts["train"], strict=True) if 0 < count < FEW]
    if few:
        what = f"{len(few)} types have fewer than {FEW} training entities: {', '.join(few)}"
        fix = "add rows, merge the types with others, or drop them."
        section.add("type-few-entities", "warning", what, where=TRAIN, rows=few, fix=fix)
    clash = _of_several_types(output, splits.train, truths["train"])
    if clash:
        what = f"{len(clash)} texts of entities have several types: {', '.join(clash[:5])}"
        fix = "decide which is right, unless the context does."
        section.add("entity-several-types", "info", what, where=TRAIN, rows=clash[:MOST_NAMED], fix=fix)
    empty = np.array([len(row) == 0 for row in truths["train"]])
    if empty.any():
        what = f"{empty.sum():,} rows ({percent(empty.sum(), len(empty))}) have no entity"
        ids = row_ids(splits.train, np.flatnonzero(empty))
        section.add("row-without-entity", "info", what, where=TRAIN, rows=ids, fix="right if there is none.")


def _of_several_types(output: Any, split: Any, truth: np.ndarray) -> list[str]:
    """Return the texts of entities that have several types, the most frequent first, with the types."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for text, row in zip(split["text"][:], truth, strict=True):
        for start, end, kind in row.tolist():
            seen[text[start:end].casefold()][output.types[kind]] += 1
    several = sorted((pair for pair in seen.items() if len(pair[1]) > 1), key=lambda pair: -pair[1].total())
    return [f"{text!r} ({', '.join(f'{kind} {n}' for kind, n in own.most_common())})" for text, own in several]
