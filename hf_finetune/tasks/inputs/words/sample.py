"""A sample of texts for ``verify``, and how the model card calls the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_finetune.tasks.inputs.text.facts import input_facts


def keep_row(folder: Path, row: int, cells: dict[str, Any], processor: Any) -> dict[str, Any] | str:
    tokens = processor(cells["text"], truncation=False, verbose=False)
    limit = processor.model_max_length
    if len(tokens["input_ids"]) > limit:
        return f"longer than {limit} tokens, which a pipeline reads in other windows"
    if not cells["text"].strip():
        return "without words"
    return {"input": cells["text"], "facts": input_facts(tokens)}


def usage_sample(inputs: dict[str, str]) -> str:
    return '"Ada Lovelace met Charles Babbage in London."'
