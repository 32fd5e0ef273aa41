"""Which columns are read and why, rows and classes of every split, and labels that are no classes."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from hf_finetune.checks.finding import MOST_NAMED, Section, Table, percent
from hf_finetune.config.options import DataConfig
from hf_finetune.data import Splits
from hf_finetune.data.rows.columns import IMAGE_NAMES, LABEL_NAMES, TEXT_NAMES
from hf_finetune.data.rows.problem import MULTI, REGRESSION, SINGLE
from hf_finetune.data.splits.splits import label_array

FEW_ROWS = 10  # of a class in training: no five folds, and hardly a validation row
_SHOWN_CLASSES = 60  # bars of a histogram
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?", re.IGNORECASE)


def check_columns(config: DataConfig, splits: Splits) -> Section:
    """The columns that hold inputs and labels, and why these."""
    section = Section("Columns", "columns")
    kind: Literal["text", "image"] = "image" if "image" in splits.train.column_names else "text"
    rows: list[tuple[str, str, str]] = [
        (own, kind, _why_input(config, kind, own, number)) for number, own in enumerate(splits.inputs)
    ]
    rows += [(own, "label", _why_label(config, own)) for own in splits.label_columns]
    section.tables.append(Table("", ("column", "holds", "why this one"), rows))
    section.facts = {"source": splits.source, "problem_type": splits.problem, "notes": list(splits.notes)}
    section.facts["columns"] = [{"column": own, "holds": holds, "why": why} for own, holds, why in rows]
    section.sentences = [f"{splits.source}: {_described(splits)}.", *splits.notes]
    return section


def _described(splits: Splits) -> str:
    if splits.problem == REGRESSION:
        return f"regression, {len(splits.labels)} number{'s' if len(splits.labels) > 1 else ''} a row"
    several = "several or no classes a row" if splits.problem == MULTI else "one class a row"
    return f"{len(splits.labels)} classes, {several}"


def _why_input(config: DataConfig, kind: str, own: str, number: int) -> str:
    named = config.image_column if kind == "image" else config.text_column
    if number:
        return "named by --text_pair_column"
    if named:
        return f"named by --{kind}_column"
    if own.strip().lower() in (IMAGE_NAMES if kind == "image" else TEXT_NAMES):
        return f"a usual name of {'images' if kind == 'image' else 'texts'}"
    return "the only column of images" if kind == "image" else "the only column of strings beside the label"


def _why_label(config: DataConfig, own: str) -> str:
    if config.label_columns:
        return "named by --label_columns"
    if config.label_column:
        return "named by --label_column"
    return "a usual name of labels" if own.strip().lower() in LABEL_NAMES else "the only column of class labels"


def check_counts(splits: Splits) -> Section:
    """Rows and classes of every split, classes that are missing or have few rows, and labels that are no classes."""
    section = Section("Rows and labels", "counts")
    section.facts["rows"] = {name: len(split) for name, split in splits.items()}
    if splits.problem == REGRESSION:
        _numbers(section, splits)
        return section
    counts = {name: splits.class_counts(name) for name, _ in splits.items()}
    _tabulate(section, splits, counts)
    _classes(section, splits, counts)
    if splits.problem == MULTI:
        _several(section, splits)
    else:
        _names(section, splits)
    return section


def _tabulate(section: Section, splits: Splits, counts: dict[str, np.ndarray]) -> None:
    rows = []
    for name, split in splits.items():
        present = np.flatnonzero(counts[name])
        low, high = (present[pick(counts[name][present])] for pick in (np.argmin, np.argmax))
        ends = [f"{splits.labels[i]} ({counts[name][i]:,})" for i in (low, high)]
        rows.append((name, f"{len(split):,}", len(present), *ends))
    section.tables.append(Table("", ("split", "rows", "classes", "smallest class", "largest class"), rows))
    total = counts["train"]
    order = np.argsort(-total, kind="stable")[:_SHOWN_CLASSES]
    bars = [(splits.labels[i], int(total[i])) for i in order]
    more = f", the {_SHOWN_CLASSES} largest of {len(total)}" if len(total) > len(bars) else ""
    section.tables.append(Table(f"Training rows of each class{more}", ("class", "rows"), bars, bars=True))
    section.facts["classes"] = {
        label: {name: int(counts[name][i]) for name in counts} for i, label in enumerate(splits.labels)
    }


def _classes(section: Section, splits: Splits, counts: dict[str, np.ndarray]) -> None:
    """Classes without rows, and with few."""
    train = counts["train"]
    if np.count_nonzero(train) < 2 and splits.problem == SINGLE:
        section.add(
            "too-few-classes",
            "error",
            "fewer than two classes have training rows",
            where="train split",
            fix="add rows of another class.",
        )
    for name, found in counts.items():
        missing = [splits.labels[i] for i in np.flatnonzero(found == 0)]
        if missing:
            section.add(
                "class-missing",
                "warning",
                f"{len(missing)} of {len(splits.labels)} classes have no row: {_some(missing)}",
                where=f"{name} split",
                rows=missing[:MOST_NAMED],
                fix="what is said of these classes rests on nothing; "
                + ("add rows, or drop the classes." if name == "train" else "split the rows by class."),
            )
    few = np.flatnonzero((train > 0) & (train < FEW_ROWS))
    if len(few):
        named = [f"{splits.labels[i]} ({train[i]})" for i in few[np.argsort(train[few], kind="stable")]]
        section.add(
            "class-few-rows",
            "warning",
            f"{len(few)} classes have fewer than {FEW_ROWS} training rows: {_some(named)}",
            where="train split",
            rows=named[:MOST_NAMED],
            fix="add rows, merge the classes with others, or drop them.",
        )
    low, high = train[train > 0].min(initial=train.max()), train.max()
    if low and high >= 20 * low:
        section.add(
            "imbalanced",
            "info",
            f"the largest class has {high / low:.0f} times the training rows of the smallest",
            where="train split",
            fix="judge by f1_macro, and try --class_weights balanced.",
        )


def _several(section: Section, splits: Splits) -> None:
    """Rows of several classes: how many a row has."""
    values = label_array(splits.train)
    each = values.sum(axis=1).astype(int)
    bars = [(str(i), int(count)) for i, count in enumerate(np.bincount(each))]
    section.tables.append(Table("Classes of a training row", ("classes", "rows"), bars, bars=True))
    always = [name for name, share in zip(splits.labels, values.mean(axis=0), strict=True) if share == 1]
    if always:
        section.add(
            "class-in-every-row",
            "warning",
            f"{_some(always)}: every training row has it",
            where="train split",
            rows=always[:MOST_NAMED],
            fix="a class that every row has cannot be learnt; drop it.",
        )
    if not each.all():
        section.add(
            "rows-without-class",
            "info",
            f"{np.count_nonzero(each == 0):,} rows ({percent((each == 0).sum(), len(each))}) have no class",
            where="train split",
            fix="right if none applies; else label them.",
        )


def _names(section: Section, splits: Splits) -> None:
    """Labels that look like something else, or like each other."""
    names, rows = splits.labels, len(splits.train)
    numbers = all(_NUMBER.fullmatch(name) for name in names)
    shown = _some([repr(name) for name in names])
    if len(names) > 20 and len(names) * 4 > rows:
        section.add(
            "labels-like-ids",
            "warning",
            f"{len(names)} classes in {rows} training rows look like ids, not classes: {shown}",
            fix="name the label column with --label_column.",
        )
    elif numbers and len(names) > 20:
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
            rows=pairs[:MOST_NAMED],
            fix="spell each class in one way.",
        )


def _numbers(section: Section, splits: Splits) -> None:
    """Targets of a regression: their range, and whether there is anything to predict."""
    rows = []
    for name, split in splits.items():
        values = label_array(split).reshape(len(split), -1)
        for index, target in enumerate(splits.labels):
            column = values[:, index]
            figures = (column.min(), np.median(column), column.mean(), column.max(), column.std())
            rows.append((name, f"{len(split):,}", target, *(f"{figure:.4g}" for figure in figures)))
            if name == "train" and column.std() == 0:
                section.add(
                    "target-constant",
                    "error",
                    f"all training rows hold {column[0]:g}: there is nothing to learn",
                    where=f"column {target!r}",
                    fix="name another column with --label_column or --label_columns.",
                )
            if name == "train":
                heights, edges = np.histogram(column, bins=min(20, max(2, len(np.unique(column)))))
                bars = [
                    (f"{low:.3g} to {high:.3g}", int(n))
                    for n, low, high in zip(heights, edges, edges[1:], strict=False)
                ]
                section.tables.append(Table(f"Training rows by {target}", ("value", "rows"), bars, bars=True))
    columns = ("split", "rows", "target", "lowest", "median", "mean", "highest", "deviation")
    section.tables.insert(0, Table("", columns, rows))
    section.facts["targets"] = [dict(zip(columns, row, strict=True)) for row in rows]


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
