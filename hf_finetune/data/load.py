"""From what the user names (a Hub id, files, folders, a DatasetDict) to clean splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_finetune.console import say
from hf_finetune.data.columns import Columns, find_columns, is_string
from hf_finetune.data.labels import unlabelled
from hf_finetune.data.problem import Problem, find_problem
from hf_finetune.data.sources import InputKind, first_rows, read_raw
from hf_finetune.data.splits import Splits, hold_out_validation
from hf_finetune.data.tables import read_file
from hf_finetune.errors import UserError
from hf_finetune.options import DataConfig

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

__all__ = ["load_splits", "read_file"]


def load_splits(config: DataConfig, kind: InputKind, dataset: DatasetDict | Dataset | None = None) -> Splits:
    """Read the rows, find the columns, encode the labels, and hold a validation split out where none is given.

    Args:
        config: where the rows are.
        kind: what the task reads, ``"text"`` or ``"image"``.
        dataset: rows that are already in memory; used instead of the places that ``config`` names.

    Raises:
        UserError: nothing given, nothing found, unreadable, or not what the task reads.
    """
    if kind == "text" and config.train_dir:
        raise UserError(
            "a folder of pictures holds no texts", where="--train_dir", fix="name a file with --train_file."
        )
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
        _note(f"The {name} split has no labels and is not used.", notes)
    problem = find_problem(raw["train"], columns.labels, config)
    clean = {name: _clean(split, name, kind, columns, problem) for name, split in raw.items()}
    train, validation = clean["train"], clean.get("validation")
    if validation is None:
        train, validation = hold_out_validation(train, config.validation_split, notes)
    say(f"{source}: {_described(columns, kind)}, {_labels_described(columns, problem)}.")
    inputs, test = list(columns.inputs), clean.get("test")
    return Splits(train, validation, test, problem.names, source, notes, problem.kind, inputs, columns.labels)


def _described(columns: Columns, kind: InputKind) -> str:
    names = ", ".join(map(repr, columns.inputs))
    return f"{kind} column{'s' if len(columns.inputs) > 1 else ''} {names}"


def _labels_described(columns: Columns, problem: Problem) -> str:
    """``label column 'label' with 2 classes``; the kind of label is said where it is not one class a row."""
    names = ", ".join(map(repr, columns.labels[:5])) + (", …" if len(columns.labels) > 5 else "")
    what = f"label column{'s' if len(columns.labels) > 1 else ''} {names}"
    if problem.kind == "regression":
        return f"{what}: regression"
    several = ", several a row" if problem.kind == "multi_label_classification" else ""
    return f"{what} with {len(problem.names)} classes{several}"


def _clean(split: Dataset, name: str, kind: InputKind, columns: Columns, problem: Problem) -> Dataset:
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
    inputs = split.select_columns(list(columns.inputs)).rename_columns(
        {own: standard for own, standard in columns.inputs.items() if own != standard}
    )
    inputs = inputs.cast_column("image", Image(decode=False)) if kind == "image" else _texts(inputs, name, columns)
    return inputs.add_column("id", ids).add_column("label", encoded)


def _texts(inputs: Dataset, name: str, columns: Columns) -> Dataset:
    from datasets import Features, Value

    for own, standard in columns.inputs.items():
        _check_text(inputs, name, standard, own)
    if any(feature.dtype != "string" for feature in inputs.features.values()):
        inputs = inputs.cast(Features(dict.fromkeys(inputs.column_names, Value("string"))), keep_in_memory=True)
    return inputs


def _check_text(split: Dataset, name: str, standard: str, column: str) -> None:
    if not is_string(split, standard):
        raise UserError(
            f"the column holds {getattr(split.features[standard], 'dtype', 'nested values')}, not text",
            where=f"{name} split, column {column!r}",
            fix="name the text column with --text_column.",
        )
    empty = [i + 1 for i, text in enumerate(split[standard][:]) if text is None]
    if empty:
        raise UserError(
            f"{len(empty)} of {len(split)} rows have no text (rows {', '.join(map(str, empty[:5]))})",
            where=f"{name} split, column {column!r}",
            fix="fill the texts in, or drop these rows with --on_bad_row skip.",
        )


def _note(sentence: str, notes: list[str]) -> None:
    say(sentence)
    notes.append(sentence)
