"""Text classification: one text in, classes or numbers out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from hf_finetune.config import Config
from hf_finetune.data.problem import SINGLE
from hf_finetune.errors import UserError, first_line
from hf_finetune.models import Checkpoint, load_checkpoint, load_settings, refuse_code
from hf_finetune.options import InputConfig

if TYPE_CHECKING:
    from datasets import Dataset

NAME = "text-classification"
KIND: Literal["text", "image"] = "text"
AUTO_CLASS = "AutoModelForSequenceClassification"

# Tokenizers of checkpoints without a limit of their own say 1e30; attention over more than this is rarely meant.
LONGEST = 512

# To be raised whenever ``encode`` makes something else of the same rows: what is kept on disk is then made anew.
VERSION = 1


def load_model(config: Config, labels: list[str], problem: str = SINGLE) -> Checkpoint:
    """The text encoder with a sequence-classification head, and its tokenizer."""
    model = config.model
    load_settings(model)  # says what is wrong with a checkpoint, where the tokenizer says that it is missing
    tokenizer = load_processor(
        str(model.model_name_or_path), revision=model.model_revision, trust_remote_code=model.trust_remote_code
    )
    checkpoint = load_checkpoint(model, AUTO_CLASS, labels, tokenizer, problem)
    limit = _longest(tokenizer, checkpoint.model.config)
    wanted = config.inputs.max_length
    if wanted and wanted > limit:
        raise UserError(
            f"the checkpoint reads at most {limit} tokens, not {wanted}",
            where="--max_length",
            fix=f"give {limit} or less.",
        )
    # Saved with the tokenizer: pipeline(..., truncation=True) cuts long texts where training did.
    tokenizer.model_max_length = wanted or min(limit, LONGEST)
    return checkpoint


def load_processor(name: str, **options: Any) -> Any:
    """The tokenizer of a checkpoint.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        refuse_code(error, name)
        raise UserError(
            f"no tokenizer can be loaded ({first_line(error)})",
            where=f"--model_name_or_path {name}",
            fix="name a text checkpoint with its tokenizer files; an image checkpoint needs the image recipe.",
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes where the files are missing
        raise UserError(
            f"the tokenizer has no vocabulary, only {len(tokenizer)} special tokens",
            where=f"--model_name_or_path {name}",
            fix="put the tokenizer's files (tokenizer.json or the vocabulary) beside the weights.",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def encode(split: Dataset, processor: Any, views: InputConfig | None = None, image_cache: str | None = None) -> Dataset:
    """Token ids of every row, cut at the tokenizer's limit and not padded; ``length`` is their number.

    The rows are kept on disk by ``datasets``: the next run on the same file with the same tokenizer reads them. One process
    does the work; a fast tokenizer spreads a batch over all cores by itself.

    Texts have no random views and no pictures: ``views`` and ``image_cache`` change nothing.
    """
    from accelerate import PartialState
    from datasets.config import HF_DATASETS_CACHE

    def tokenize(rows: dict[str, list[Any]]) -> dict[str, Any]:
        texts = (rows["text"], rows["text_pair"]) if "text_pair" in rows else (rows["text"],)
        tokens = dict(processor(*texts, truncation=True))
        tokens["length"] = [len(ids) for ids in tokens["input_ids"]]
        if "label" in rows:
            tokens["labels"] = rows["label"]
        return tokens

    # Rows of a saved data set are cached beside it unless they stay in memory: nothing is written to the user's folder.
    elsewhere = all(file["filename"].startswith(str(HF_DATASETS_CACHE)) for file in split.cache_files)
    options = {"remove_columns": split.column_names, "desc": "Tokenising", "keep_in_memory": not elsewhere}
    with PartialState().main_process_first():
        return split.map(tokenize, batched=True, new_fingerprint=_fingerprint(split, processor), **options)


def _fingerprint(split: Dataset, processor: Any) -> str | None:
    """Name of the rows once they are encoded: all that their token ids depend on.

    Left to itself, ``datasets`` pickles the tokenizer in Python to find it, entry by entry: half a second a split. None,
    which leaves it to do so, for tokenizers that are written in Python.
    """
    from datasets.fingerprint import Hasher

    backend = getattr(processor, "backend_tokenizer", None)
    if backend is None:
        return None
    # What the last call cut and padded to is a part of its state; every call sets both again.
    backend.no_truncation()
    backend.no_padding()
    settings = [type(processor).__name__, processor.model_max_length, processor.truncation_side, VERSION]
    return Hasher.hash([split._fingerprint, backend.to_str(), *settings, list(processor.model_input_names)])


def collator(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pad a batch to its longest row, rounded up to a multiple of 8 (what tensor cores and AVX read at once)."""
    from transformers import DataCollatorWithPadding

    pad = DataCollatorWithPadding(processor, pad_to_multiple_of=8)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return dict(pad([{key: value for key, value in row.items() if key != "length"} for row in rows]))

    return collate


def _longest(tokenizer: Any, settings: Any) -> int:
    """Tokens that the checkpoint can read: the smaller of the tokenizer's limit and the table of positions."""
    limits = [int(tokenizer.model_max_length)]
    positions = getattr(settings, "max_position_embeddings", None)
    if positions and positions > 0:
        # RoBERTa and its kin begin to count behind the padding id, so that the last positions are out of reach.
        offset = (
            (settings.pad_token_id or 0) + 1
            if "roberta" in settings.model_type or settings.model_type == "mpnet"
            else 0
        )
        limits.append(int(positions) - offset)
    return min(limits)
