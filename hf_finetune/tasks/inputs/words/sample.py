"""A sample of texts for ``verify``, and texts on the page of ``serve`` and on the model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_finetune.tasks.inputs.text import show
from hf_finetune.tasks.inputs.text.facts import input_facts

SENTENCE = "Ada Lovelace met Charles Babbage in London."


def keep_row(folder: Path, row: int, cells: dict[str, Any], processor: Any) -> dict[str, Any] | str:
    tokens = processor(cells["text"], truncation=False, verbose=False)
    limit = processor.model_max_length
    if len(tokens["input_ids"]) > limit:
        return f"longer than {limit} tokens, which a pipeline reads in other windows"
    if not cells["text"].strip():
        return "without words"
    return {"input": cells["text"], "facts": input_facts(tokens)}


def usage_sample(inputs: dict[str, str]) -> str:
    return f'"{SENTENCE}"'


def components(gradio: Any, columns: dict[str, list[str]] | None) -> tuple[list[Any], list[Any]]:
    """Return one box for a text, whatever the name of the column of words was."""
    return show.components(gradio, None)


def row_of(values: tuple[Any, ...], columns: dict[str, list[str]] | None) -> Dataset | None:
    return show.row_of(values, None)


def widget(inputs: dict[str, str]) -> list[dict[str, str]] | None:
    return [{"text": SENTENCE}]
