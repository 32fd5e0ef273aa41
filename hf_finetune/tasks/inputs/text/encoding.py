"""Encode texts: tokenizer, maximum length and batches; hashes of texts and tokenizers for the names of caches."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from datasets.fingerprint import Hasher

from hf_finetune.config.options import InputConfig
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError
from hf_finetune.models import Checkpoint, load_preprocessing
from hf_finetune.tasks.inputs.text.long_texts import CHUNK, TRUNCATE, encode_pieces, long_text_of, set_long_text
from hf_finetune.tasks.inputs.text.row_input import columns_of, in_users_cache

# The default limit: tokenizers of checkpoints without one have 1e30, and longer attention is rarely wanted.
LONGEST = 512
_ABOUT = frozenset({"length", "cut", "row"})  # columns of encoded rows that are not model inputs
# Increase it when ``encode`` changes its result for the same rows, so that caches on disk are not reused.
VERSION = 1


def checkpoint_name(name: str) -> str:
    return name


def prepare(checkpoint: Checkpoint, inputs: InputConfig, rows: Any = None) -> None:
    """Set the tokenizer's maximum length to ``--max_length`` or the model's limit, which it may not exceed."""
    tokenizer, wanted = checkpoint.processor, inputs.max_length
    limit = _longest(tokenizer, checkpoint.model.config)
    if wanted and wanted > limit:
        what = f"the checkpoint reads at most {limit} tokens, not {wanted}"
        raise UserError(what, where="--max_length", fix=f"give {limit} or less.")
    # Saved with the tokenizer: pipeline(..., truncation=True) cuts long texts where training did.
    tokenizer.model_max_length = wanted or min(limit, LONGEST)
    set_long_text(tokenizer, inputs.long_text)


def load_processor(name: str, **options: Any) -> Any:
    fix = "name a text checkpoint with its tokenizer files; an image checkpoint needs the image recipe."
    tokenizer = load_preprocessing("AutoTokenizer", "tokenizer", name, fix, **options)
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers returns such a tokenizer if files are missing
        raise UserError(
            f"the tokenizer has no vocabulary, only {len(tokenizer)} special tokens",
            where=f"--model_name_or_path {name}",
            fix="put the tokenizer's files (tokenizer.json or the vocabulary) beside the weights.",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def encode(split: Dataset, processor: Any, views: InputConfig | None = None, image_cache: str | None = None) -> Any:
    """Return the token ids of every row, truncated at the tokenizer's limit, without padding; ``length`` is their number.

    If long texts are read in chunks, each chunk is a row with the label of its text, and ``row`` is the index of the text.
    ``datasets`` caches the result on disk for later runs with the same rows and tokenizer. One process is enough, because
    a fast tokenizer uses all cores.
    """
    if isinstance(split, Stream):
        if long_text_of(processor) == CHUNK:
            raise UserError(
                "a stream does not know how many chunks its texts have",
                where="--long_text chunk",
                fix="give head_tail or truncate, or train without --streaming.",
            )
        return split.encoded(partial(_tokenize_rows, processor))
    # In memory if datasets would write its cache beside a data set that the user saved.
    options = {"remove_columns": split.column_names, "desc": "Tokenising", "keep_in_memory": not in_users_cache(split)}
    name = cache_name(split, processor, [VERSION, long_text_of(processor)])
    with PartialState().main_process_first():
        return split.map(
            partial(_tokenize, processor), batched=True, with_indices=True, new_fingerprint=name, **options
        )


def _tokenize(processor: Any, rows: dict[str, list[Any]], indices: list[int]) -> dict[str, Any]:
    texts = (rows["text"], rows["text_pair"]) if "text_pair" in rows else (rows["text"],)
    how = long_text_of(processor)
    if how == TRUNCATE:
        own: Iterable[int] = range(len(indices))
        tokens = dict(processor(*texts, truncation="longest_first"))
        tokens["length"] = [len(ids) for ids in tokens["input_ids"]]
    else:
        tokens, own = encode_pieces(processor, texts, how)
    if how == CHUNK:
        tokens["row"] = [indices[row] for row in own]
    return tokens | ({"labels": [rows["label"][row] for row in own]} if "label" in rows else {})


def _tokenize_rows(processor: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tokens = _tokenize(processor, {name: [row[name] for row in rows] for name in rows[0]}, list(range(len(rows))))
    return [{name: values[index] for name, values in tokens.items()} for index in range(len(tokens["length"]))]


def cache_name(split: Dataset, processor: Any, how: list[Any]) -> str | None:
    """Return the cache name of the encoded rows, a hash of all that their token ids depend on; None leaves it to ``datasets``.

    ``how`` is what they depend on besides rows and tokenizer.
    It pickles the tokenizer entry by entry, which takes half a second per split, and is left to tokenizers in Python.
    """
    backend = getattr(processor, "backend_tokenizer", None)
    if backend is None:
        return None
    # Truncation and padding of the last call are part of its state; every call sets both.
    backend.no_truncation()
    backend.no_padding()
    settings = [type(processor).__name__, processor.model_max_length, processor.truncation_side]
    settings += [*how, list(processor.model_input_names)]
    return Hasher.hash([split._fingerprint, backend.to_str(), *settings])


def fingerprint(encoded: Any, processor: Any) -> str:
    return fingerprint_without(encoded, _ABOUT)


def fingerprint_without(encoded: Any, about: frozenset[str]) -> str:
    """Return a hash of the model inputs of encoded rows: of all columns but ids, labels and those in ``about``."""
    digest = hashlib.sha256()
    columns = sorted(name for name in encoded.column_names if name not in about | {"id", "label", "labels"})
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


def collator(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return a function that pads a batch to its longest row, rounded up to a multiple of 8 for the tensor cores of a GPU."""
    from transformers import DataCollatorWithPadding

    pad = DataCollatorWithPadding(processor, pad_to_multiple_of=8 if torch.cuda.is_available() else None)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return dict(pad([{key: value for key, value in row.items() if key not in _ABOUT} for row in rows]))

    return collate


def _longest(tokenizer: Any, settings: Any) -> int:
    """Return the most tokens that the checkpoint reads: the smaller of the tokenizer's limit and the position table."""
    limits = [int(tokenizer.model_max_length)]
    positions = getattr(settings, "max_position_embeddings", None)
    if positions and positions > 0:
        # RoBERTa and similar models count positions from the padding id, so that the last positions are unused.
        from_padding = "roberta" in settings.model_type or settings.model_type == "mpnet"
        limits.append(int(positions) - ((settings.pad_token_id or 0) + 1 if from_padding else 0))
    return min(limits)


def views(inputs: InputConfig, *, tunes_backbone: bool) -> InputConfig | None:
    return None


def mixer(inputs: InputConfig, classes: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    raise UserError("texts cannot be mixed", where="--mixup, --cutmix", fix="leave the flags out.")
