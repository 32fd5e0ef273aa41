"""Encode texts with a tag for each word: tokens, the words that they belong to, and windows of long texts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset

from hf_finetune.config.options import InputConfig
from hf_finetune.console import say
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError
from hf_finetune.models import Checkpoint
from hf_finetune.tasks.inputs.chunks import InChunks
from hf_finetune.tasks.inputs.text import encoding as text
from hf_finetune.tasks.inputs.text.long_texts import CHUNK, pieces
from hf_finetune.tasks.inputs.text.row_input import in_users_cache
from hf_finetune.tasks.outputs.entities.tagged_text import IGNORED, iob2, tag_words

SETTING = "aggregation_strategy"  # its key in tokenizer_config.json; the name of an argument of the pipeline
FIRST, SIMPLE = "first", "simple"
VERSION = 1
# Columns of encoded rows that are not model inputs: of a row in windows, its number; of a window, its words.
_ABOUT = frozenset({"length", "cut", "row", "text", "words", "places"})


def prepare(checkpoint: Checkpoint, inputs: InputConfig, rows: Any = None) -> None:
    """Set the tokenizer's maximum length, and how the pipeline joins tokens to entities.

    ``first``, by the first token of each word, needs a tokenizer that tells words from pieces of words, or entities that
    are whole words between spaces. Otherwise it is ``simple``, and each token is a word.
    """
    if inputs.long_text == "head_tail":
        what, fix = "the middle of a text would have no tags", "leave the flag out: long texts are read in windows."
        raise UserError(what, where="--long_text head_tail", fix=fix)
    tokenizer = checkpoint.processor
    if not tokenizer.is_fast:
        what, fix = "the tokenizer does not say which characters a token is", "use a checkpoint with a fast tokenizer."
        raise UserError(what, where=f"--model_name_or_path {checkpoint.name}", fix=fix)
    text.prepare(checkpoint, inputs)
    at_spaces = getattr(checkpoint.model.config, "entities_at_spaces", True)
    tokenizer.init_kwargs[SETTING] = FIRST if _knows_words(tokenizer) or at_spaces else SIMPLE


def call_options(processor: Any) -> dict[str, Any]:
    return {SETTING: strategy_of(processor)}


def strategy_of(tokenizer: Any) -> str:
    """Return how tokens are joined to entities; a tokenizer that no run saved reads words by their first token."""
    return str(getattr(tokenizer, "init_kwargs", {}).get(SETTING, FIRST))


def encode(split: Dataset, processor: Any, views: InputConfig | None = None, image_cache: str | None = None) -> Any:
    """Return the windows of every row: token ids, and the words of which each is the first token.

    A text of more tokens than the tokenizer's limit is read in windows that overlap by an eighth; a word belongs to the
    window in which it has more context. ``row`` is the number of the text, ``words`` are characters, shape (words, 2),
    and ``places`` their tokens. ``labels`` has a tag for these tokens and ``IGNORED`` for others.
    """
    if isinstance(split, Stream):
        return split.encoded(partial(_encode_rows, processor))
    options = {"remove_columns": split.column_names, "desc": "Tokenising", "keep_in_memory": not in_users_cache(split)}
    name = text.cache_name(split, processor, [VERSION, strategy_of(processor)])
    with PartialState().main_process_first():
        return split.map(partial(_encode, processor), batched=True, with_indices=True, new_fingerprint=name, **options)


def _encode_rows(processor: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = _encode(processor, {name: [row[name] for row in rows] for name in rows[0]}, list(range(len(rows))))
    return [{name: values[index] for name, values in found.items()} for index in range(len(found["row"]))]


def _encode(processor: Any, rows: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
    options = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "truncation": False}
    whole = dict(processor(rows["text"], verbose=False, **options))
    offsets, masks = whole.pop("offset_mapping"), whole.pop("special_tokens_mask")
    names = [*whole, "length", "cut", "row", "text", "words", "places", *(["labels"] if "label" in rows else [])]
    found: dict[str, list[Any]] = {name: [] for name in names}
    sizes = _piece_sizes(processor)
    for number, content in enumerate(rows["text"]):
        special = np.array(masks[number], dtype=bool)
        ids, places = np.array(whole["input_ids"][number]), np.array(offsets[number]).reshape(-1, 2)
        first, words = _words(processor, content, ids, places, special, sizes)
        tags = None
        if "label" in rows:
            spans = np.array(rows["label"][number], dtype=np.int64).reshape(-1, 3)
            tags = tag_words(words, spans, iob2)
        limit = processor.model_max_length
        windows = pieces(masks[number], limit, CHUNK)
        for window, (piece, (low, high)) in enumerate(zip(windows, _owned(windows), strict=True)):
            tokens = np.concatenate([np.arange(part.start, part.stop) for part in piece])
            own = np.flatnonzero((first >= low) & (first < high))
            own_places = np.searchsorted(tokens, first[own])
            for name, column in whole.items():
                found[name].append([column[number][token] for token in tokens])
            found["length"].append(len(tokens))
            found["cut"].append(max(0, len(ids) - limit) if window == 0 else 0)
            found["row"].append(indices[number])
            found["text"].append(content if window == 0 else "")
            found["words"].append(words[own].tolist())
            found["places"].append(own_places.tolist())
            if tags is not None:
                labels = np.full(len(tokens), IGNORED)
                labels[own_places] = tags[own]
                found["labels"].append(labels.tolist())
    return found


def _knows_words(tokenizer: Any) -> bool:
    """Return whether the vocabulary distinguishes words from pieces of words."""
    return bool(getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None))


def _piece_sizes(tokenizer: Any) -> np.ndarray | None:
    """Return the characters of each entry of a vocabulary of words and pieces of words; None for other tokenizers."""
    if not _knows_words(tokenizer):
        return None
    vocabulary = tokenizer.get_vocab()
    sizes = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for entry, number in vocabulary.items():
        sizes[number] = len(entry)
    return sizes


def _words(
    tokenizer: Any, content: str, ids: np.ndarray, offsets: np.ndarray, special: np.ndarray, sizes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first token of each word, and its characters, as the pipeline of transformers divides a text."""
    tokens = np.flatnonzero(~special)
    if not len(tokens):
        return tokens, np.zeros((0, 2), dtype=np.int64)
    starts, ends = offsets[tokens].T
    if strategy_of(tokenizer) == SIMPLE:
        continues = np.zeros(len(tokens), dtype=bool)
    elif sizes is not None:
        continues = sizes[ids[tokens]] != ends - starts
    else:
        continues = np.array([start > 0 and " " not in content[start - 1 : start + 1] for start in starts.tolist()])
    if tokenizer.unk_token_id is not None and strategy_of(tokenizer) == FIRST:
        continues &= ids[tokens] != tokenizer.unk_token_id
    continues[0] = False
    begins = np.flatnonzero(~continues)
    last = np.append(begins[1:], len(tokens)) - 1
    return tokens[begins], np.stack([starts[begins], ends[last]], axis=1)


def _owned(windows: list[list[slice]]) -> list[tuple[int, int]]:
    """Return the tokens (first, after the last) that belong to each window: half of an overlap belongs to each of two."""
    inner = [max(window, key=lambda part: part.stop - part.start) for window in windows]
    middles = [(before.stop + after.start + 1) // 2 for before, after in pairwise(inner)]
    return list(zip([0, *middles], [*middles, 1 << 60], strict=True))


def collator(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return a function that pads a batch to its longest window as that of texts does, with its labels."""
    pad = text.collator(processor)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = pad([{k: v for k, v in row.items() if k not in _ABOUT and k != "labels"} for row in rows])
        if "labels" in rows[0]:
            labels = torch.full(batch["input_ids"].shape, IGNORED)
            for number, row in enumerate(rows):
                labels[number, : len(row["labels"])] = torch.as_tensor(row["labels"])
            batch["labels"] = labels
        return batch

    return collate


def fingerprint(encoded: Any, processor: Any) -> str:
    return text.fingerprint_without(encoded, _ABOUT)


class Windows(InChunks):
    """A counter of texts that are read in several windows."""

    def say(self, name: str, tokenizer: Any) -> None:
        if self.long:
            say(
                f"Long texts: {self.long:,} of {self.rows:,} {name} rows have more than {tokenizer.model_max_length} tokens "
                f"and are read in {self.chunks} overlapping windows."
            )


def shortened() -> Windows:
    return Windows()
