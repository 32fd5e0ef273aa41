"""Find exact and near duplicates: within a split, across splits (leakage), and with different labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hf_finetune.data import Splits
from hf_finetune.data.protocols import RowInput
from hf_finetune.data.rows.duplicates import (
    add_conflicts,
    add_duplicates,
    add_leaks,
    crossing,
    find_duplicates,
    keyed_rows,
    name_groups,
)
from hf_finetune.data.rows.finding import MOST_NAMED, Section, draw, percent
from hf_finetune.tasks.task import Inspection

MOST_NEAR = 200_000  # rows to search for near duplicates
_MANY = 0.01  # share of repeated rows in a split from which they are a warning


def check_duplicates(splits: Splits, rows: RowInput, inspection: Inspection) -> Section:
    """Return the section on duplicates; ``inspection`` is what the input found in the rows."""
    section = Section("Duplicates and leakage", "duplicates")
    keyed = keyed_rows(splits, rows)
    exact = find_duplicates(keyed)
    _within(section, splits, exact)
    add_duplicates(section, splits, exact)
    near = _near(section, splits, keyed, inspection)
    leaked, near_leaked = crossing(exact), crossing(near)
    add_leaks(section, splits, near_leaked, "leak-near", "are nearly the same as")
    add_conflicts(section, splits, near, "labels-conflict-near", "pairs of near duplicates")
    table = []
    for name, split in splits.items():
        repeated, *counts = (each[each["split"] == name] for each in (exact, near, leaked, near_leaked))
        figures = (len(repeated) - repeated["group"].nunique(), *(each["row"].nunique() for each in counts))
        keys = ("repeated", "near", "also_in_another_split", "near_another_split")
        section.facts[name] = dict(zip(keys, figures, strict=True))
        table.append((name, f"{len(split):,}", *(f"{count:,}" for count in figures)))
    columns = ("split", "rows", "repeat another", "nearly repeat another", "also in another split", "nearly so")
    section.table("", columns, table)
    return section


def _within(section: Section, splits: Splits, exact: pd.DataFrame) -> None:
    """Add rows that repeat an earlier row of their own split."""
    for name, split in splits.items():
        own = exact[exact["split"] == name]
        repeated = len(own) - own["group"].nunique()
        if repeated:
            section.add(
                "duplicate-exact",
                "warning" if repeated > _MANY * len(split) else "info",
                f"{repeated:,} rows ({percent(repeated, len(split))}) repeat another row of the split",
                where=f"{name} split",
                rows=name_groups(splits, own[own.duplicated("group", keep=False)], MOST_NAMED),
                fix="drop the copies, unless the rows really come that often.",
            )


def _near(section: Section, splits: Splits, keyed: pd.DataFrame, inspection: Inspection) -> pd.DataFrame:
    """Return pairs of near duplicates, each pair as a group; equal inputs count once."""
    held_out_first = pd.concat([keyed[keyed["split"] == name] for name, _ in reversed(splits.items())])
    rows = inspection.comparable(held_out_first.drop_duplicates("key", ignore_index=True))
    if len(rows) > MOST_NEAR:
        section.sentences.append(f"Near duplicates are looked for among {MOST_NEAR:,} of {len(rows):,} different rows.")
        rows = _drawn(rows)
    pairs = inspection.near(rows)
    both = rows.iloc[pairs[:, ::-1].ravel()].drop(columns="key").reset_index(drop=True)
    both.insert(0, "group", np.repeat(np.arange(len(pairs)), 2))
    return both


def _drawn(rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``MOST_NEAR`` rows to compare: held-out rows first (up to half), then training rows."""
    held, train = rows[rows["split"] != "train"], rows[rows["split"] == "train"]
    held = held.iloc[draw(len(held), MOST_NEAR // 2)]
    return pd.concat([held, train.iloc[draw(len(train), MOST_NEAR - len(held))]], ignore_index=True)
