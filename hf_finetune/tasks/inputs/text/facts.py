"""Facts about model inputs of texts. The fresh process of ``verify`` runs this file, so it cannot import this package."""

from __future__ import annotations

import json
import zlib
from typing import Any

SETTINGS = ("model_max_length", "truncation_side", "padding_side", "pad_token")


def processor_facts(processor: Any) -> dict[str, Any]:
    """Return the settings of a tokenizer that change the model's inputs."""
    found = {name: getattr(processor, name) for name in SETTINGS}
    backend = getattr(processor, "backend_tokenizer", None)
    if backend is None:
        vocabulary: Any = sorted(processor.get_vocab().items())
    else:
        state = json.loads(backend.to_str())
        vocabulary = state["model"]
        found |= {name: state[name] for name in ("normalizer", "pre_tokenizer", "post_processor")}
    checksum = zlib.crc32(json.dumps(vocabulary, sort_keys=True).encode())
    return found | {"vocabulary": f"{len(processor)} entries, checksum {checksum:08x}"}


def pipeline_input(item: Any) -> Any:
    """Return what a pipeline takes for an item of a job: it as it is."""
    return item


def input_facts(inputs: Any) -> dict[str, Any]:
    """Return the token ids of one row, from a list or a batch of one."""
    tokens = {name: inputs[name] for name in ("input_ids", "token_type_ids") if name in inputs}
    return {name: ids[0].tolist() if hasattr(ids, "tolist") else list(ids) for name, ids in tokens.items()}
