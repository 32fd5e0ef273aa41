"""Hashes of texts, of the tokens of a split and of the tokenizer, for the names of caches."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from hf_finetune.tasks.inputs.text.row_input import columns_of

_NOT_INPUTS = frozenset({"id", "label", "labels", "length", "cut", "row"})


def fingerprint(encoded: Any, processor: Any) -> str:
    digest = hashlib.sha256()
    columns = sorted(name for name in encoded.column_names if name not in _NOT_INPUTS)
    for batch in encoded.select_columns(columns).with_format("arrow").iter(1000):
        for name in columns:
            digest.update(f"{name} {json.dumps(batch[name].to_pylist())}".encode())
    return digest.hexdigest()


def describe_processor(processor: Any) -> str:
    """Return a hash of the files of a tokenizer."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def content_hash(split: Any) -> str | None:
    digest = hashlib.sha256()
    for name in columns_of(split):
        for text in split[name][:]:
            digest.update(f"{len(text)} {text}".encode(errors="surrogatepass"))
    return digest.hexdigest()
