"""The components for texts on the page of ``serve``: a text box for each column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_finetune.data.rows.unlabelled import standard_rows
from hf_finetune.tasks.inputs.text.row_input import rows

if TYPE_CHECKING:
    from datasets import Dataset


def components(gradio: Any, columns: dict[str, list[str]] | None) -> tuple[list[Any], list[Any]]:
    """Return the components for a row, and the events that trigger a prediction."""
    inputs = [gradio.Textbox(label=box, lines=3, max_lines=20) for box in boxes(columns)]
    button = gradio.Button("Predict", variant="primary")
    return inputs, [button.click, *(box.submit for box in inputs)]


def row_of(values: tuple[Any, ...], columns: dict[str, list[str]] | None) -> Dataset | None:
    """Return the row of the texts in the components; None if all are empty."""
    import pyarrow as pa

    if not any(text.strip() for text in values):
        return None
    named = boxes(columns)
    table = pa.table({name: [text] for name, text in zip(named, values, strict=True)})
    return standard_rows(table, rows, named)


def boxes(columns: dict[str, list[str]] | None) -> dict[str, str]:
    """Return the name of each column → its standard name; each column has a text box."""
    return {name: standard for standard, names in (columns or {"text": ["text"]}).items() for name in names}
