"""Texts on the page of ``serve``: a box for each column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_finetune.data.rows.unlabelled import text_rows

if TYPE_CHECKING:
    from datasets import Dataset


def components(gradio: Any, columns: dict[str, list[str]] | None) -> tuple[list[Any], list[Any]]:
    """Return the components that take a row, and the events that ask for its answer.

    Args:
        gradio: the library, within a page.
        columns: standard name → the columns that the model was trained on.
    """
    inputs = [gradio.Textbox(label=box, lines=3, max_lines=20) for box in boxes(columns)]
    button = gradio.Button("Predict", variant="primary")
    return inputs, [button.click, *(box.submit for box in inputs)]


def row_of(values: tuple[Any, ...], columns: dict[str, list[str]] | None) -> Dataset | None:
    """Return the row of the values of the components; None where there is no text."""
    import pyarrow as pa

    if not any(text.strip() for text in values):
        return None
    named = boxes(columns)
    return text_rows(pa.table({name: [text] for name, text in zip(named, values, strict=True)}), named)


def boxes(columns: dict[str, list[str]] | None) -> dict[str, str]:
    """Return the user's name of each text with its standard name: a box each."""
    return {name: standard for standard, names in (columns or {"text": ["text"]}).items() for name in names}
