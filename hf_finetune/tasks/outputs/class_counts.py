"""Count the rows of each class in each split, and find what is suspicious about the counts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from hf_finetune.data import Splits

FEW_ROWS = 10  # training rows of a class: too few for five folds or for validation rows
SHOWN_CLASSES = 60  # bars per histogram
MANY_TIMES = 20  # ratio of largest to smallest class from which classes are imbalanced
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?", re.IGNORECASE)


def class_table(splits: Splits) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return a table of all splits: rows, classes, the smallest and the largest class."""
    rows = []
    for name, split in splits.items():
        counts = splits.class_counts(name)
        present = np.flatnonzero(counts)
        low, high = (present[pick(counts[present])] for pick in (np.argmin, np.argmax))
        ends = [f"{splits.output.names[i]} ({counts[i]:,})" for i in (low, high)]
        rows.append((name, f"{len(split):,}", len(present), *ends))
    return ("split", "rows", "classes", "smallest class", "largest class"), rows


def class_notes(splits: Splits) -> list[str]:
    """Return a note on classes without training rows.

    Raises:
        UserError: fewer than two classes have training rows.
    """
    names, missing = splits.output.names, np.flatnonzero(splits.class_counts("train") == 0)
    if len(names) - len(missing) < 2:
        raise UserError("fewer than two classes have rows", where="train split", fix="fix the rows that were skipped.")
    if not len(missing):
        return []
    shown = ", ".join(names[i] for i in missing[:5])
    return [f"{len(missing)} of {len(names)} classes have no training row: {shown}."]


def check_classes(section: Any, splits: Splits) -> None:
    """Add rows by class, and findings on missing, rare and imbalanced classes, to a section of ``check``."""
    names, counts = splits.output.names, {name: splits.class_counts(name) for name, _ in splits.items()}
    train = counts["train"]
    columns, rows = class_table(splits)
    section.table("", columns, rows)
    order = np.argsort(-train, kind="stable")[:SHOWN_CLASSES]
    more = f", the {SHOWN_CLASSES} largest of {len(train)}" if len(train) > len(order) else ""
    bars = [(names[i], int(train[i])) for i in order]
    section.table(f"Training rows of each class{more}", ("class", "rows"), bars, bars=True)
    section.facts["classes"] = {label: {name: int(counts[name][i]) for name in counts} for i, label in enumerate(names)}
    for name, found in counts.items():
        _check_missing(section, name, [names[i] for i in np.flatnonzero(found == 0)], len(names))
    few = np.flatnonzero((train > 0) & (train < FEW_ROWS))
    if len(few):
        named = [f"{names[i]} ({train[i]})" for i in few[np.argsort(train[few], kind="stable")]]
        section.add(
            "class-few-rows",
            "warning",
            f"{len(few)} classes have fewer than {FEW_ROWS} training rows: {_some(named)}",
            where="train split",
            rows=named,
            fix="add rows, merge the classes with others, or drop them.",
        )
    low, high = train[train > 0].min(initial=train.max()), train.max()
    if low and high >= MANY_TIMES * low:
        section.add(
            "imbalanced",
            "info",
            f"the largest class has {high / low:.0f} times the training rows of the smallest",
            where="train split",
            fix="judge by f1_macro, and try --class_weights balanced.",
        )


def check_too_few(section: Any, splits: Splits) -> None:
    """Add an error where fewer than two classes have training rows."""
    if np.count_nonzero(splits.class_counts("train")) < 2:
        section.add(
            "too-few-classes",
            "error",
            "fewer than two classes have training rows",
            where="train split",
            fix="add rows of another class.",
        )


def check_classes_per_row(section: Any, splits: Splits) -> None:
    """Add the number of classes per training row, and findings on classes that every row has."""
    values = splits.output.truth_of(splits.train)
    each = values.sum(axis=1).astype(int)
    bars = [(str(i), int(count)) for i, count in enumerate(np.bincount(each))]
    section.table("Classes of a training row", ("classes", "rows"), bars, bars=True)
    always = [name for name, share in zip(splits.output.names, values.mean(axis=0), strict=True) if share == 1]
    if always:
        section.add(
            "class-in-every-row",
            "warning",
            f"{_some(always)}: every training row has it",
            where="train split",
            rows=always,
            fix="a class that every row has cannot be learnt; drop it.",
        )
    if not each.all():
        section.add(
            "rows-without-class",
            "info",
            f"{np.count_nonzero(each == 0):,} rows ({100 * np.mean(each == 0):.2g}%) have no class",
            where="train split",
            fix="right if none applies; else label them.",
        )


def check_names(section: Any, names: list[str], rows: int) -> None:
    """Add findings on class names that look like numbers or ids, or like each other, among ``rows`` training rows."""
    shown = _some([repr(name) for name in names])
    if len(names) > 20 and len(names) * 4 > rows:
        section.add(
            "labels-like-ids",
            "warning",
            f"{len(names)} classes in {rows} training rows look like ids, not classes: {shown}",
            fix="name the label column with --label_column.",
        )
    elif len(names) > 20 and all(_NUMBER.fullmatch(name) for name in names):
        section.add(
            "labels-like-numbers",
            "warning",
            f"{len(names)} classes that are all numbers look like quantities: {shown}",
            fix="if 4 is closer to 5 than to 1, add --problem_type regression.",
        )
    if len(names) > 2 and float(np.mean([len(name.split()) >= 6 for name in names])) > 0.5:
        section.add(
            "labels-like-text",
            "warning",
            f"most class names have six words and more, and look like free text: {shown}",
            fix="name the label column with --label_column.",
        )
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"[\s_-]+", " ", name).strip().casefold() or name, []).append(name)
    pairs = [" = ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    if pairs:
        section.add(
            "labels-spelled-alike",
            "warning",
            f"{len(pairs)} classes are spelled in several ways: {_some(pairs)}",
            rows=pairs,
            fix="spell each class in one way.",
        )


def _check_missing(section: Any, split: str, missing: list[str], classes: int) -> None:
    if not missing:
        return
    remedy = "add rows, or drop the classes." if split == "train" else "split the rows by class."
    section.add(
        "class-missing",
        "warning",
        f"{len(missing)} of {classes} classes have no row: {_some(missing)}",
        where=f"{split} split",
        rows=missing,
        fix=f"what is said of these classes rests on nothing; {remedy}",
    )


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
