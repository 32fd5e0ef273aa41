"""From what the user names (a Hub id, files, folders, a DatasetDict) to clean splits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hf_finetune.config.options import DataConfig
from hf_finetune.console import say, say_and_note
from hf_finetune.data.readers.sources import InputKind, first_rows, read_raw
from hf_finetune.data.readers.tables import read_file
from hf_finetune.data.rows.bad_rows import missing, non_numbers, sound_rows, without
from hf_finetune.data.rows.columns import Columns, find_columns
from hf_finetune.data.rows.labels import unlabelled
from hf_finetune.data.rows.problem import REGRESSION, Problem, find_problem
from hf_finetune.data.rows.row_metadata import add_slices, read_groups
from hf_finetune.data.rows.texts import describe_texts, standard_texts
from hf_finetune.data.splits.divide import divide
from hf_finetune.data.splits.splits import Splits
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["load_splits", "read_file"]


def load_splits(config: DataConfig, kind: InputKind, dataset: Any = None) -> Splits:
    """Read the rows, find the columns, encode the labels, and hold rows out where splits are wanted and not given.

    Args:
        config: where the rows are.
        kind: what the task reads, ``"text"`` or ``"image"``.
        dataset: a ``Dataset`` or ``DatasetDict``, used instead of the places that ``config`` names; or an
            ``IterableDataset`` or ``IterableDatasetDict``, which means ``--streaming``.

    Raises:
        UserError: nothing given, nothing found, unreadable, or not what the task reads.
    """
    from datasets import IterableDataset, IterableDatasetDict

    if isinstance(dataset, (IterableDataset, IterableDatasetDict)):
        config.streaming = True
    if config.streaming:
        from hf_finetune.data.splits.stream_splits import stream_splits

        return stream_splits(config, kind, dataset)
    raw, source = read_raw(config, kind, dataset)
    raw = first_rows(raw, config)
    if "train" not in raw:
        raise UserError(
            f"there is no training split; found {', '.join(raw) or 'nothing'}",
            where=source,
            fix="name the training rows.",
        )
    for name, split in raw.items():
        if len(split) == 0:
            raise UserError(
                "the split has no rows", where=f"{source}, {name} split", fix="give rows, or leave the split out."
            )
    columns = find_columns(raw["train"], kind, config)
    notes: list[str] = []
    for name in [n for n in ("validation", "test") if n in raw and unlabelled(raw[n], columns.labels[0])]:
        del raw[name]
        say_and_note(f"The {name} split has no labels and is not used.", notes)
    problem, skipped = _leave_bad_rows_out(raw, columns, config, notes)
    clean = {name: clean_split(split, name, kind, columns, problem) for name, split in raw.items()}
    clean = {name: add_slices(split, raw[name], name, config.slice_column or []) for name, split in clean.items()}
    splits, split_table = divide(clean, raw, columns, config, problem.kind, notes)
    say(f"{source}: {described(columns, kind)}, {labels_described(columns, problem)}.")
    return Splits(
        splits["train"],
        splits.get("validation"),
        splits.get("test"),
        problem.names,
        source,
        notes,
        problem.kind,
        columns.inputs,
        skipped,
        split_table,
        columns.labels,
    )


def load_labelled(config: DataConfig, kind: InputKind, names: list[str], problem: str) -> Dataset:
    """Rows to judge a model on, in the form of a split of :func:`load_splits`.

    Args:
        config: says as ``train_file`` or ``train_dir`` where the rows are.
        kind: what the task reads.
        names: the labels that the model knows.
        problem: their kind.

    Raises:
        UserError: unreadable, not what the task reads, or a label that the model does not know.
    """
    raw, source = read_raw(config, kind, None)
    split = raw["train"]
    if len(split) == 0:
        raise UserError("there are no rows", where=source, fix="give labelled rows.")
    if config.group_column not in split.column_names:  # other rows need not hang together as those of the run did
        config = replace(config, group_column=None)
    columns = find_columns(split, kind, config)
    known = Problem(problem, columns.labels, names, config.label_delimiter)
    faults = missing(split, "test", columns, config)
    faults += non_numbers(split, known.columns, config) if problem == REGRESSION else []
    split = without(split, "test", faults, [], [])
    clean = add_slices(clean_split(split, "test", kind, columns, known), split, "test", config.slice_column or [])
    return clean.add_column("group", read_groups(split, "test", columns.group)) if columns.group else clean


def _leave_bad_rows_out(
    raw: dict[str, Dataset], columns: Columns, config: DataConfig, notes: list[str]
) -> tuple[Problem, list[dict[str, Any]]]:
    """Take the rows without text or label, and for regression without a number, out of ``raw``, or refuse them.

    Returns:
        What the labels are, read off the training rows that stay, and the rows that were left out.
    """
    faults = {name: missing(split, name, columns, config) for name, split in raw.items()}
    labelled = raw["train"].select(sound_rows("train", faults["train"])) if faults["train"] else raw["train"]
    problem = find_problem(labelled, columns.labels, config)
    skipped: list[dict[str, Any]] = []
    for name, split in raw.items():
        numbers = non_numbers(split, problem.columns, config) if problem.kind == REGRESSION else []
        raw[name] = without(split, name, faults[name] + numbers, notes, skipped)
    return problem, skipped


def described(columns: Columns, kind: InputKind) -> str:
    """``text column 'text'``."""
    return describe_texts(columns.inputs) if kind == "text" else f"image column {next(iter(columns.inputs))!r}"


def labels_described(columns: Columns, problem: Problem) -> str:
    """``label column 'label' with 2 classes``; the kind of label is said where it is not one class a row."""
    names = ", ".join(map(repr, columns.labels[:5])) + (", …" if len(columns.labels) > 5 else "")
    what = f"label column{'s' if len(columns.labels) > 1 else ''} {names}"
    if problem.kind == "regression":
        return f"{what}: regression"
    several = ", several a row" if problem.kind == "multi_label_classification" else ""
    return f"{what} with {len(problem.names)} classes{several}"


def clean_split(split: Dataset, name: str, kind: InputKind, columns: Columns, problem: Problem) -> Dataset:
    """The columns ``id``, ``text`` (and ``text_pair``) or ``image``, ``label`` of one split."""
    from datasets import Image

    for wanted in (*columns.inputs, *columns.labels):
        if wanted not in split.column_names:
            raise UserError(
                f"there is no column {wanted!r}, which the training rows have; found {', '.join(split.column_names)}",
                where=f"{name} split",
                fix="give every split the same columns.",
            )
    ids = [str(i) for i in split["id"][:]] if "id" in split.column_names else [str(i) for i in range(len(split))]
    encoded = problem.encode(split, name)
    if kind == "text":
        fix = "fill the texts in, or drop these rows with --on_bad_row skip."
        inputs = standard_texts(split, columns.inputs, f"{name} split", fix)
    else:
        own = next(iter(columns.inputs))
        inputs = split.select_columns([own]).rename_columns({} if own == "image" else {own: "image"})
        inputs = inputs.cast_column("image", Image(decode=False))
    return inputs.add_column("id", ids).add_column("label", encoded)
