"""Training rows that are read again in every epoch, shuffled per block and encoded per batch."""

from __future__ import annotations

import copy
import mmap
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate.utils import gather_object
from torch.utils.data import IterableDataset, get_worker_info

from hf_finetune.console import first_few, say
from hf_finetune.data.protocols import RowInput
from hf_finetune.data.readers.source import Source
from hf_finetune.errors import UserError

# From rows (``row``, ``epoch``, ``text`` or ``image``, ``label``) to model inputs.
EncodeRows = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """A reference to a row in a block; its values are read only when it is encoded."""

    block: pa.Table | None  # None if the row was used before the run was resumed
    index: int
    number: int
    epoch: int


class StreamError(UserError):
    """A ``UserError`` while rows are read, perhaps in a worker: torch recreates it from a text with its two lines."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        lines = None if fix else re.search(r"Error: error: (.*)\nfix: (.*)", what)
        super().__init__(lines[1] if lines else what, where=where, fix=lines[2] if lines else fix)


@dataclass(eq=False)
class Stream(IterableDataset[Row]):
    """Streamed training rows: everything except the labels is read again in each epoch.

    The order depends only on seed and epoch. Each process and worker reads all blocks, and encodes only its own batches, so
    the batches are the same for any number of processes and workers, and a resumed run continues exactly.

    ``len(stream)`` is the number of rows, ``stream["label"]`` their labels in the order of the source.
    """

    source: Source
    input: RowInput
    inputs: dict[str, str]  # the user's name of each input column → its standard name
    codes: np.ndarray  # index of each row's label in ``cells``, shape (rows of the source,)
    cells: np.ndarray  # the different labels, encoded; shape (labels,) or (labels, classes or targets)
    held_out: np.ndarray  # indices of the rows not to train on, ascending
    on_bad: str = "error"  # or ``skip`` to leave unreadable files out of their batch
    encode: EncodeRows | None = None

    def __post_init__(self) -> None:
        self.column_names = [*dict.fromkeys(self.inputs.values()), "label"]
        self.block_rows = self.input.block_rows
        self.seed = torch.initial_seed()
        self.step_rows = self.batch_rows = 1
        self.by_length = False
        # In shared memory, because persistent workers see later epochs.
        self.place = torch.frombuffer(mmap.mmap(-1, 16), dtype=torch.int64)  # the epoch, and the first row in it
        self.unreadable = torch.frombuffer(mmap.mmap(-1, len(self.codes)), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.codes) - len(self.held_out)

    def __getitem__(self, column: str) -> np.ndarray:
        """Return the labels of all rows."""
        if column != "label":
            raise KeyError(column)
        return self.cells[self._kept_codes()]

    def _kept_codes(self) -> np.ndarray:
        return np.delete(self.codes, self.held_out)

    def class_counts(self) -> np.ndarray | None:
        """Return the rows per class, also for several classes per row; shape (highest class + 1,).

        None if labels are of parts of a row.
        """
        if self.cells.dtype == object or self.cells.ndim > 2:
            return None
        counts = np.bincount(self._kept_codes(), minlength=len(self.cells))
        sums = counts @ self.cells if self.cells.ndim > 1 else np.bincount(self.cells, weights=counts)
        return sums.astype(np.int64)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the order depends."""
        self.place[0] = epoch

    def start_at(self, batches: int) -> None:
        """Skip this many batches of the epoch, which were used before the run was resumed, without encoding them."""
        self.place[1] = batches * self.batch_rows

    def encoded(self, encode: EncodeRows) -> Stream:
        """Return the same rows with this encoder."""
        other = copy.copy(self)
        other.encode = encode
        return other

    def batched(self, arguments: Any) -> None:
        """Set seed and batch sizes from the ``TrainingArguments``."""
        self.seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
        self.batch_rows = arguments.train_batch_size * arguments.world_size
        self.step_rows = self.batch_rows * arguments.gradient_accumulation_steps
        self.by_length = arguments.train_sampling_strategy == "group_by_length"

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows of this process in this epoch; each worker takes the batches that the loader expects from it."""
        worker = get_worker_info()
        count, own = (1, 0) if worker is None else (worker.num_workers, worker.id)
        try:
            for position, row in enumerate(self._rows()):
                if position // self.batch_rows % count == own:
                    yield row if position >= self.place[1] else replace(row, block=None)
        except UserError as error:
            raise StreamError(error.what, where=error.where, fix=error.fix) from error

    def _rows(self) -> Iterator[Row]:
        epoch = int(self.place[0])
        generator = torch.Generator().manual_seed(self.seed + epoch)
        size = -(-self.block_rows // self.step_rows) * self.step_rows
        first = 0
        for block in self.source.blocks(list(self.inputs), size):
            block = self.input.standard(block, self.inputs)
            self._refuse_missing(block, first)
            numbers = np.arange(first, first + len(block))
            kept = np.flatnonzero(~np.isin(numbers, self.held_out))
            for index in kept[self._order(block, kept, generator)]:
                yield Row(block, int(index), int(numbers[index]), epoch)
            first += len(block)
        if first != len(self.codes):
            raise UserError(
                f"{len(self.codes):,} rows were counted before training, and {first:,} are read now",
                where=self.source.name,
                fix="leave the data as they are while a run reads them.",
            )

    def _refuse_missing(self, block: pa.Table, first: int) -> None:
        for standard, own in self.input.filled(self.inputs).items():
            if block[standard].null_count:
                row = first + int(block[standard].is_null().index(True).as_py())
                raise UserError(
                    f"row {row + 1:,} has no text",
                    where=f"{self.source.name}, column {own[-1]!r}",
                    fix="fill the texts in, or drop the rows without one.",
                )

    def _order(self, block: pa.Table, kept: np.ndarray, generator: torch.Generator) -> Any:
        """Return a random order of the kept rows; rows of a step have similar lengths, if grouping by length."""
        from transformers.trainer_pt_utils import get_length_grouped_indices

        lengths = self.input.lengths(block) if self.by_length else None
        if lengths is None:
            return torch.randperm(len(kept), generator=generator).numpy()
        return get_length_grouped_indices(lengths[kept].tolist(), self.step_rows, generator=generator)

    def collator(self, collate: Collate) -> Collate:
        """Return a function that makes batches; it encodes rows of the stream, but not other rows."""
        return partial(self._collate, collate)

    def _collate(self, collate: Collate, rows: list[Any]) -> dict[str, Any]:
        if not isinstance(rows[0], Row):
            return collate(rows)
        if rows[0].block is None:
            return {}
        assert self.encode is not None, "a stream is encoded by a task"
        return collate(self.encode(self.read(rows)))

    def read(self, rows: list[Row]) -> list[dict[str, Any]]:
        """Return the values of rows: ``row`` (its index), ``epoch``, the inputs and ``label``."""
        found = []
        for _, group in groupby(rows, key=lambda row: id(row.block)):
            members = list(group)
            block: Any = members[0].block
            values = block.take([row.index for row in members]).to_pylist()
            for row, value in zip(members, values, strict=True):
                label = self.cells[self.codes[row.number]].tolist()
                found.append(value | {"row": row.number, "epoch": row.epoch, "label": label})
        return found

    def drop_unreadable(self, rows: list[dict[str, Any]], faults: dict[int, str]) -> list[dict[str, Any]]:
        """Return a batch without the rows in ``faults`` (row → reason); each is counted and printed once.

        Raises:
            StreamError: such rows must not be skipped, or no row of the batch is left.
        """
        first, column = min(faults), self.input.cell.column
        if self.on_bad == "error":
            raise StreamError(
                f"the {column} of row {first + 1:,} cannot be read ({faults[first]})",
                where=self.source.name,
                fix=f"fix or remove it; training can drop such {self.input.cell.called} with --on_bad_{column} skip.",
            )
        for number in sorted(faults):
            if not self.unreadable[number]:
                self.unreadable[number] = 1
                say(f"Warning: the {column} of row {number + 1:,} cannot be read and is skipped ({faults[number]}).")
        left = [row for row in rows if row["row"] not in faults]
        if not left:
            raise StreamError(
                f"no {column} of a whole batch can be read (rows {first_few(number + 1 for number in sorted(faults))})",
                where=self.source.name,
                fix="check the files.",
            )
        return left

    def notes(self) -> list[str]:
        """Return notes for the model card after training: the number of skipped files."""
        bad = sorted(set(gather_object(torch.nonzero(self.unreadable).flatten().tolist())))
        shown = first_few(number + 1 for number in bad)
        return (
            [f"{len(bad)} unreadable {self.input.cell.called} of the train split were skipped: rows {shown}."]
            if bad
            else []
        )
