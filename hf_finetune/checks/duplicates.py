"""Find exact and near duplicates: within a split, across splits (leakage), and with different labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_finetune.data import Splits
from hf_finetune.data.inputs import RowInput
from hf_finetune.data.rows.audit import is_constant
from hf_finetune.data.rows.duplicates import (
    contradicting,
    crossing,
    find_duplicates,
    keyed_rows,
    name_groups,
)
from hf_finetune.data.rows.finding import DRAW_SEED, MOST_NAMED, Section, percent
from hf_finetune.tasks.task import Inspection

if TYPE_CHECKING:
    import pandas as pd

MOST_NEAR = 200_000  # rows to search for near duplicates
_MANY = 0.01  # share of repeated rows in a split from which they are a warning


def check_duplicates(splits: Splits, rows: RowInput, inspection: Inspection) -> Section:
    """Return the section on duplicates; ``inspection`` is what the input found in the rows."""
    section = Section("Duplicates and leakage", "duplicates")
    exact = find_duplicates(splits, rows)
    if is_constant(splits, exact):
        section.add(
            "input-constant",
            "error",
            f"all {len(splits.train):,} training rows have the same input: there is nothing to learn from",
            where="train split",
            fix="name the column of the input: --text_column for texts, --image_column for images.",
        )
    leaked = crossing(exact)
    _within(section, splits, exact)
    _across(section, splits, leaked, "leak-exact", "are also")
    _conflicts(section, splits, exact, "labels-conflict", "inputs")
    near = _near(section, splits, rows, inspection)
    near_leaked = crossing(near)
    _across(section, splits, near_leaked, "leak-near", "are nearly the same as")
    _conflicts(section, splits, near, "labels-conflict-near", "pairs of near duplicates")
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


def _across(section: Section, splits: Splits, shared: pd.DataFrame, code: str, words: str) -> None:
    """Add held-out rows that are also in training or in the other held-out split."""
    for held, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        groups = shared.loc[shared["split"] == other, "group"]
        leaked = shared[(shared["split"] == held) & shared["group"].isin(groups)]
        if not len(leaked):
            continue
        count, size = leaked["row"].nunique(), len(getattr(splits, held))
        both = shared[shared["group"].isin(leaked["group"]) & shared["split"].isin([held, other])]
        section.add(
            code,
            "warning",
            f"{count:,} rows of the {held} split ({percent(count, size)}) {words} rows of the {other} split",
            where=f"{held} split",
            rows=name_groups(splits, both, MOST_NAMED),
            fix=f"drop them from the {other} split: figures of the {held} split are too good with them.",
        )


def _conflicts(section: Section, splits: Splits, rows: pd.DataFrame, code: str, what: str) -> None:
    """Add inputs with more than one label."""
    clash = contradicting(splits, rows)
    if len(clash):
        section.add(
            code,
            "warning",
            f"{clash['group'].nunique():,} {what} occur with different labels",
            where=" and ".join(name for name, _ in splits.items() if name in set(clash["split"])),
            rows=name_groups(splits, clash, MOST_NAMED),
            fix="decide which label is right; if both are, the rows have several labels.",
        )


def _near(section: Section, splits: Splits, inputs: RowInput, inspection: Inspection) -> pd.DataFrame:
    """Return pairs of near duplicates, each pair as a group; equal inputs count once."""
    held_out_first = reversed(splits.items())  # they are always compared
    rows = keyed_rows(held_out_first, inputs, splits.output).drop_duplicates("key", ignore_index=True)
    rows = inspection.comparable(rows)
    if len(rows) > MOST_NEAR:
        section.sentences.append(f"Near duplicates are looked for among {MOST_NEAR:,} of {len(rows):,} different rows.")
        rows = _drawn(rows)
    pairs = inspection.near(rows)
    both = rows.iloc[pairs[:, ::-1].ravel()].drop(columns="key").reset_index(drop=True)
    both.insert(0, "group", np.repeat(np.arange(len(pairs)), 2))
    return both


def _drawn(rows: pd.DataFrame) -> pd.DataFrame:
    """Return at most ``MOST_NEAR`` rows to compare: held-out rows first (up to half), then training rows."""
    random = np.random.default_rng(DRAW_SEED)
    held, train = (np.flatnonzero(mask) for mask in (rows["split"] != "train", rows["split"] == "train"))
    held = held if len(held) <= MOST_NEAR // 2 else random.choice(held, MOST_NEAR // 2, replace=False)
    train = random.choice(train, min(len(train), MOST_NEAR - len(held)), replace=False)
    return rows.iloc[np.concatenate([np.sort(held), np.sort(train)])].reset_index(drop=True)
