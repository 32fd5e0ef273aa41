"""Encode texts longer than the model's limit: truncated, as first and last tokens, or as overlapping chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_finetune.console import say
from hf_finetune.errors import UserError
from hf_finetune.tasks.task import Shortened

TRUNCATE, HEAD_TAIL, CHUNK = "truncate", "head_tail", "chunk"
SETTING = "long_text"  # its key in tokenizer_config.json
OVERLAP = 8  # neighbouring chunks share an eighth of their tokens


def set_long_text(tokenizer: Any, how: str) -> None:
    """Store how long texts are read in the tokenizer, so that it is saved and loaded with it."""
    tokenizer.init_kwargs.pop(SETTING, None)
    if how != TRUNCATE:
        tokenizer.init_kwargs[SETTING] = how


def long_text_of(tokenizer: Any) -> str:
    """Return how long texts are read with a tokenizer; one that no run saved truncates them."""
    return str(getattr(tokenizer, "init_kwargs", {}).get(SETTING, TRUNCATE))


def encode_pieces(tokenizer: Any, texts: tuple[list[str], ...], how: str) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Return the tokenizer's columns with too long texts (or pairs) in pieces, and the row of each piece, shape (pieces,).

    A piece has at most ``model_max_length`` tokens, with special tokens. Two columns are added: ``length``, the tokens of
    the piece, and ``cut``, the tokens that truncation would lose (for the first piece of a row, otherwise 0).
    """
    limit = tokenizer.model_max_length
    whole = dict(tokenizer(*texts, truncation=False, return_special_tokens_mask=True, verbose=False))
    masks = whole.pop("special_tokens_mask")
    found: dict[str, list[Any]] = {name: [] for name in (*whole, "length", "cut")}
    rows = []
    for row, mask in enumerate(masks):
        for number, piece in enumerate(pieces(mask, limit, how)):
            for name, column in whole.items():
                found[name].append([value for part in piece for value in column[row][part]])
            found["length"].append(sum(part.stop - part.start for part in piece))
            found["cut"].append(max(0, len(mask) - limit) if number == 0 else 0)
            rows.append(row)
    return found, np.array(rows, dtype=np.int64)


def pieces(special: list[int], limit: int, how: str) -> list[list[slice]]:
    """Return the tokens of each piece of a row as a list of slices, with the special tokens.

    ``head_tail`` makes one piece, half of first and half of last tokens. ``chunk`` makes windows that share an eighth of
    their tokens with the next. For a pair, the longer text is split; the other is kept whole, or truncated if it needs
    more than half of the length. ``special`` is 1 for each special token of the row, 0 for other tokens.
    """
    count = len(special)
    if count <= limit:
        return [[slice(0, count)]]
    texts = _runs(special)
    room = limit - (count - sum(text.stop - text.start for text in texts))
    if room < 2 * len(texts):
        raise UserError(
            f"{limit} tokens leave no room for a text beside the special tokens", where="--max_length", fix="give more."
        )
    longest = max(texts, key=lambda text: text.stop - text.start)
    others = {text.start: min(text.stop - text.start, room // len(texts)) for text in texts if text is not longest}
    found = []
    for window in _windows(longest, room - sum(others.values()), how):
        piece, at = [], 0
        for text in texts:
            parts = window if text is longest else [slice(text.start, text.start + others[text.start])]
            piece += [slice(at, text.start), *parts]
            at = text.stop
        found.append([*piece, slice(at, count)])
    return found


def _windows(text: slice, width: int, how: str) -> list[list[slice]]:
    """Return the slices of a text in each piece, together at most ``width`` tokens."""
    if how == HEAD_TAIL:
        head = (width + 1) // 2
        return [[slice(text.start, text.start + head), slice(text.stop - (width - head), text.stop)]]
    overlap = width // OVERLAP
    starts = range(text.start, text.stop - overlap, width - overlap)
    return [[slice(start, min(start + width, text.stop))] for start in starts]


def _runs(special: list[int]) -> list[slice]:
    """Return the slices of the texts between special tokens."""
    edges = np.flatnonzero(np.diff([1, *special, 1]))
    return [slice(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


@dataclass
class LongTexts(Shortened):
    """A counter of too long rows, over one or more splits; simply truncated rows do not count."""

    rows: int = 0
    long: int = 0  # rows longer than the model's limit
    chunks: int = 0  # of the long rows; 0 without chunks
    cut: int = 0  # tokens that truncation would lose

    def add(self, encoded: Any) -> None:
        if "cut" not in getattr(encoded, "column_names", ()):
            return
        cut = np.asarray(encoded["cut"][:])
        rows, long = len(encoded), int((cut > 0).sum())
        if "row" in encoded.column_names:
            rows = len(np.unique(encoded["row"][:]))
            self.chunks += len(encoded) - (rows - long)
        self.rows += rows
        self.long += long
        self.cut += int(cut.sum())

    def say(self, name: str, tokenizer: Any) -> None:
        if not self.long:
            return
        chunks = f"read in {self.chunks} chunks, whose answers are averaged"
        what = chunks if self.chunks else "read by their first and last tokens"
        say(
            f"Long texts: {self.long:,} of {self.rows:,} {name} rows have more than {tokenizer.model_max_length} tokens and "
            f"are {what}; truncation would have cut {self.cut:,} tokens."
        )


def shortened() -> LongTexts:
    return LongTexts()
