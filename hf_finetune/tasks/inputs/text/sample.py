"""Texts of a run's sample, as a user hands them to a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.tasks.inputs.text.columns import columns_of
from hf_finetune.tasks.inputs.text.facts import input_facts
from hf_finetune.tasks.inputs.text.long_texts import TRUNCATE, long_text_of


def odd_rows(rows: Any) -> list[int]:
    """Return the longest and the shortest text."""
    columns = [rows[name][:] for name in columns_of(rows)]
    lengths = [sum(map(len, texts)) for texts in zip(*columns, strict=True)]
    return [int(np.argmax(lengths)), int(np.argmin(lengths))]


def keep_row(folder: Path, row: int, cells: dict[str, Any], processor: Any) -> dict[str, Any] | str:
    """Return ``input`` and ``facts`` of a row, or why a pipeline cannot repeat it.

    Args:
        folder: where files of the sample go.
        row: its number.
        cells: of the row.
        processor: the tokenizer that training used.
    """
    texts = {name: cells[name] for name in columns_of(cells)}
    if long_text_of(processor) != TRUNCATE:
        limit = processor.model_max_length
        if len(processor(**texts, truncation=False, verbose=False)["input_ids"]) > limit:
            return f"longer than {limit} tokens, which a pipeline truncates and this run did not"
    facts = input_facts(processor(**texts, truncation=True))
    return {"input": texts if "text_pair" in texts else texts["text"], "facts": facts}


def pipeline_input(kept: Any, folder: Path) -> Any:
    """Return what a pipeline takes for the ``input`` of a row that was kept: a text, or a dictionary of a pair."""
    return kept
