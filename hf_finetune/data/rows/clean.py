"""The clean form of a split: the columns ``id``, those of the input, and ``label``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_finetune.data.inputs import RowInput
from hf_finetune.data.outputs import RowOutput
from hf_finetune.data.rows.columns import Columns
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def clean_split(split: Dataset, name: str, rows: RowInput, columns: Columns, output: RowOutput) -> Dataset:
    """Return the columns of the input, ``id`` and ``label`` of one split.

    Raises:
        UserError: a column is missing or of another type, or a row has no input or no label.
    """
    refuse_missing_columns(split.column_names, columns, f"{name} split")
    ids = [str(i) for i in split["id"][:]] if "id" in split.column_names else [str(i) for i in range(len(split))]
    encoded = output.encode(split, name)
    return rows.clean(split, columns.inputs, f"{name} split").add_column("id", ids).add_column("label", encoded)


def refuse_missing_columns(found: list[str], columns: Columns, where: str) -> None:
    """Refuse a split without a column that the training rows have."""
    for wanted in (*columns.inputs, *columns.labels):
        if wanted not in found:
            raise UserError(
                f"there is no column {wanted!r}, which the training rows have; found {', '.join(found)}",
                where=where,
                fix="give every split the same columns.",
            )


def describe_labels(columns: Columns, output: RowOutput) -> str:
    """Return ``label column 'label' with 2 classes``."""
    names = ", ".join(map(repr, columns.labels[:5])) + (", …" if len(columns.labels) > 5 else "")
    return f"label column{'s' if len(columns.labels) > 1 else ''} {names} with {output.describe()}"
