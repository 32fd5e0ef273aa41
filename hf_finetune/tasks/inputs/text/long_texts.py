"""Texts that are longer than the model reads: cut at the end, first and last tokens, or overlapping chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_finetune.console import say
from hf_finetune.errors import UserError

TRUNCATE, HEAD_TAIL, CHUNK = "truncate", "head_tail", "chunk"
SETTING = "long_text"  # what it is called in tokenizer_config.json
OVERLAP = 8  # neighbouring chunks share an eighth of their tokens


def set_long_text(tokenizer: Any, how: str) -> None:
    """Make a tokenizer remember how long texts are read; it is saved and loaded with it, as its length is."""
    tokenizer.init_kwargs.pop(SETTING, None)
    if how != TRUNCATE:
        tokenizer.init_kwargs[SETTING] = how


def long_text_of(tokenizer: Any) -> str:
    """How long texts are read with a tokenizer; one that was not saved by a run cuts them at the end."""
    return str(getattr(tokenizer, "init_kwargs", {}).get(SETTING, TRUNCATE))


def encode_pieces(tokenizer: Any, texts: tuple[list[str], ...], how: str) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Token ids of texts, or pairs of texts, of which those that are too long are read in pieces.

    Args:
        tokenizer: its ``model_max_length`` is the length of a piece, special tokens included.
        texts: the texts, and the second texts of pairs.
        how: ``head_tail`` or ``chunk``.

    Returns:
        The tokenizer's columns, ``length`` (tokens of a piece) and ``cut`` (tokens of the row that truncation would have
        cut, with its first piece; else 0); and the row of each piece, shape (pieces,).
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
    """Which tokens of a row its pieces have: each piece is a list of slices, special tokens among them.

    ``head_tail`` makes one piece, of the first and the last tokens, half and half. ``chunk`` makes windows that share an
    eighth of their tokens with the next. Of a pair the longer text is read in pieces; the other one is kept as a whole, or
    cut where it would take more than half of the room.

    Args:
        special: 1 for each special token of the row, 0 for the others.
        limit: tokens of a piece at most.
        how: ``head_tail`` or ``chunk``.

    Raises:
        UserError: special tokens alone fill a piece.
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
    """The slices of a text that each piece has, ``width`` tokens together at most."""
    if how == HEAD_TAIL:
        head = (width + 1) // 2
        return [[slice(text.start, text.start + head), slice(text.stop - (width - head), text.stop)]]
    overlap = width // OVERLAP
    starts = range(text.start, text.stop - overlap, width - overlap)
    return [[slice(start, min(start + width, text.stop))] for start in starts]


def _runs(special: list[int]) -> list[slice]:
    """Where the texts lie between the special tokens."""
    edges = np.flatnonzero(np.diff([1, *special, 1]))
    return [slice(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


@dataclass
class LongTexts:
    """How many rows were too long, of as many splits or parts of one as are added.

    Args:
        rows: texts, or pairs of them.
        long: those of them that are longer than the model reads.
        chunks: those that these were read in; 0 where they were not read in chunks.
        cut: tokens that truncation would have cut.
    """

    rows: int = 0
    long: int = 0
    chunks: int = 0
    cut: int = 0

    def add(self, encoded: Any) -> None:
        """Count the rows of an encoded split; those whose ends are just cut off do not count."""
        if "cut" not in getattr(encoded, "column_names", ()):
            return
        cut = np.asarray(encoded["cut"][:])
        long = int((cut > 0).sum())
        if "row" in encoded.column_names:
            rows = len(np.unique(encoded["row"][:]))
            self.chunks += len(encoded) - (rows - long)
        else:
            rows = len(encoded)
        self.rows, self.long, self.cut = self.rows + rows, self.long + long, self.cut + int(cut.sum())

    def say(self, name: str, tokenizer: Any) -> None:
        """Say it, where there were any.

        Args:
            name: what the rows are called: ``training``.
            tokenizer: what encoded them.
        """
        if not self.long:
            return
        what = "read by their first and last tokens"
        if self.chunks:
            what = f"read in {self.chunks} chunks, whose answers are averaged"
        say(
            f"Long texts: {self.long:,} of {self.rows:,} {name} rows have more than {tokenizer.model_max_length} tokens and "
            f"are {what}; truncation would have cut {self.cut:,} tokens."
        )


def shortened() -> LongTexts:
    """Return a counter of the texts that are too long to be read as a whole."""
    return LongTexts()
