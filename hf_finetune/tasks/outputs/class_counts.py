"""Count the rows of each class in each split, and find what is suspicious about the counts."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from hf_finetune.console import first_few
from hf_finetune.data import Splits
from hf_finetune.errors import UserError

FEW_ROWS = 10  # training rows of a class: too few for five folds or for validation rows
SHOWN_CLASSES = 60  # bars per histogram
MANY_TIMES = 20  # ratio of largest to smallest class from which classes are imbalanced
TRAIN = "train split"
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
    """Return a note on classes without training rows; a ``UserError`` if fewer than two have some."""
    names, missing = splits.output.names, np.flatnonzero(splits.class_counts("train") == 0)
    if len(names) - len(missing) < 2:
        raise UserError("fewer than two classes have rows", where=TRAIN, fix="fix the rows that were skipped.")
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
    for split, found in counts.items():
        missing = [names[i] for i in np.flatnonzero(found == 0)]
        if missing:
            what = f"{len(missing)} of {len(names)} classes have no row: {first_few(missing)}"
            remedy = "add rows, or drop the classes." if split == "train" else "split the rows by class."
            fix = f"what is said of these classes rests on nothing; {remedy}"
            section.add("class-missing", "warning", what, where=f"{split} split", rows=missing, fix=fix)
    few = np.flatnonzero((train > 0) & (train < FEW_ROWS))
    if len(few):
        named = [f"{names[i]} ({train[i]})" for i in few[np.argsort(train[few], kind="stable")]]
        what = f"{len(few)} classes have fewer than {FEW_ROWS} training rows: {first_few(named)}"
        fix = "add rows, merge the classes with others, or drop them."
        section.add("class-few-rows", "warning", what, where=TRAIN, rows=named, fix=fix)
    low, high = train[train > 0].min(initial=train.max()), train.max()
    if low and high >= MANY_TIMES * low:
        what = f"the largest class has {high / low:.0f} times the training rows of the smallest"
        fix = "judge by f1_macro, and try --class_weights balanced."
        section.add("imbalanced", "info", what, where=TRAIN, fix=fix)


def check_one_class_per_row(section: Any, splits: Splits) -> None:
    """Add an error for fewer than two classes, and findings on names like numbers, ids, texts, or each other."""
    names, rows = splits.output.names, len(splits.train)
    if np.count_nonzero(splits.class_counts("train")) < 2:
        what, fix = "fewer than two classes have training rows", "add rows of another class."
        section.add("too-few-classes", "error", what, where=TRAIN, fix=fix)
    shown, another = first_few(map(repr, names)), "name the label column with --label_column."
    if len(names) > 20 and len(names) * 4 > rows:
        what = f"{len(names)} classes in {rows} training rows look like ids, not classes: {shown}"
        section.add("labels-like-ids", "warning", what, fix=another)
    elif len(names) > 20 and all(_NUMBER.fullmatch(name) for name in names):
        what = f"{len(names)} classes that are all numbers look like quantities: {shown}"
        fix = "if 4 is closer to 5 than to 1, add --problem_type regression."
        section.add("labels-like-numbers", "warning", what, fix=fix)
    if len(names) > 2 and float(np.mean([len(name.split()) >= 6 for name in names])) > 0.5:
        what = f"most class names have six words and more, and look like free text: {shown}"
        section.add("labels-like-text", "warning", what, fix=another)
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"[\s_-]+", " ", name).strip().casefold() or name, []).append(name)
    pairs = [" = ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    if pairs:
        what = f"{len(pairs)} classes are spelled in several ways: {first_few(pairs)}"
        section.add("labels-spelled-alike", "warning", what, rows=pairs, fix="spell each class in one way.")


def check_several_classes_per_row(section: Any, splits: Splits) -> None:
    """Add the number of classes per training row, and findings on classes of every row and rows without a class."""
    values = splits.output.truth_of(splits.train)
    each = values.sum(axis=1).astype(int)
    bars = [(str(i), int(count)) for i, count in enumerate(np.bincount(each))]
    section.table("Classes of a training row", ("classes", "rows"), bars, bars=True)
    always = [name for name, share in zip(splits.output.names, values.mean(axis=0), strict=True) if share == 1]
    if always:
        what = f"{first_few(always)}: every training row has it"
        fix = "a class that every row has cannot be learnt; drop it."
        section.add("class-in-every-row", "warning", what, where=TRAIN, rows=always, fix=fix)
    if not each.all():
        what = f"{np.count_nonzero(each == 0):,} rows ({100 * np.mean(each == 0):.2g}%) have no class"
        section.add("rows-without-class", "info", what, where=TRAIN, fix="right if none applies; else label them.")
