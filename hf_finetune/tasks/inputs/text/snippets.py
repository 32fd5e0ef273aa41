"""Example texts and code for the model card and the README of an exported model."""

from __future__ import annotations

from typing import Any


def widget(inputs: dict[str, str]) -> list[dict[str, str]] | None:
    """Return examples for the widget on the Hub, never rows of the user's data; None for pairs, which it cannot show."""
    if "text_pair" in inputs.values():
        return None
    return [{"text": "Two hours well spent: I would recommend it to anybody."}]


def usage_sample(inputs: dict[str, str]) -> str:
    """Return the arguments of a call of the pipeline as code."""
    text = '{"text": "Some text.", "text_pair": "Another."}' if "text_pair" in inputs.values() else '"Some text."'
    return f"{text}, truncation=True"


def onnx_code(columns: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    """Return the class of the processor, imports, and lines of code that make ``inputs`` for an exported model."""
    texts = '["Some text."], ["Another."]' if "text_pair" in columns else '["Some text.", "Another."]'
    return (
        "AutoTokenizer",
        [],
        [
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            f'inputs = tokenizer({texts}, truncation=True, padding=True, return_tensors="np")',
        ],
    )
