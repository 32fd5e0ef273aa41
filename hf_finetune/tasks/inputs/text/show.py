"""How texts are shown: excerpts on pages, text boxes of ``serve``, and examples for cards and exported models."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from datasets import Dataset

from hf_finetune.data.rows.unlabelled import standard_rows
from hf_finetune.tasks.inputs.text.row_input import columns_of, rows

MOST_CHARACTERS = 400


def preview(row: dict[str, Any]) -> dict[str, str | None]:
    texts = [row[name] for name in columns_of(row)]
    short = [text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…" for text in texts]
    return {"text": " / ".join(short), "image": None}


def components(gradio: Any, columns: dict[str, list[str]] | None) -> tuple[list[Any], list[Any]]:
    inputs = [gradio.Textbox(label=box, lines=3, max_lines=20) for box in boxes(columns)]
    button = gradio.Button("Predict", variant="primary")
    return inputs, [button.click, *(box.submit for box in inputs)]


def row_of(values: tuple[Any, ...], columns: dict[str, list[str]] | None) -> Dataset | None:
    if not any(text.strip() for text in values):
        return None
    named = boxes(columns)
    table = pa.table({name: [text] for name, text in zip(named, values, strict=True)})
    return standard_rows(table, rows, named)


def boxes(columns: dict[str, list[str]] | None) -> dict[str, str]:
    """Return the name of each column → its standard name; each column has a text box."""
    return {name: standard for standard, names in (columns or {"text": ["text"]}).items() for name in names}


def widget(inputs: dict[str, str]) -> list[dict[str, str]] | None:
    if "text_pair" in inputs.values():  # the widget cannot show pairs
        return None
    return [{"text": "Two hours well spent: I would recommend it to anybody."}]


def usage_sample(inputs: dict[str, str]) -> str:
    return '{"text": "Some text.", "text_pair": "Another."}' if "text_pair" in inputs.values() else '"Some text."'


def onnx_code(columns: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    texts = '["Some text."], ["Another."]' if "text_pair" in columns else '["Some text.", "Another."]'
    code = [
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f'inputs = tokenizer({texts}, truncation=True, padding=True, return_tensors="np")',
    ]
    return "AutoTokenizer", [], code
