"""Which training rows an epoch reads."""

from __future__ import annotations

import numpy as np

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.batching import EpochSampler
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError

# WNUT-17, 64 % empty rows, 3 epochs: F1 on the validation rows 0.560 with all of them, 0.559 with a third, in 0.56 of the steps.
EMPTY_ROWS_EVERY = 3


def sampling_classes(config: Config, splits: Splits) -> np.ndarray | None:
    """Return the class of each training row for ``--balanced_sampling``, shape (rows,); None without the flag.

    A row with several classes counts as its rarest one; rows without a class form a class.

    Raises:
        UserError: the rows are a stream.
    """
    if not config.run.balanced_sampling:
        return None
    if isinstance(splits.train, Stream):
        raise UserError(
            "the rows of a stream cannot be sampled",
            where="--balanced_sampling",
            fix="use --class_weights balanced, or train without --streaming.",
        )
    classes = np.unique(splits.output.strata(splits.output.truth_of(splits.train)), return_inverse=True)[1]
    each = len(classes) / (classes.max() + 1)
    counts = np.bincount(classes)
    say(
        f"Balanced sampling: each class gives {each:.0f} of the {len(classes)} rows of an epoch; classes have "
        f"{counts.min()} to {counts.max()} training rows."
    )
    return classes


def seldom_read(config: Config, splits: Splits) -> tuple[np.ndarray, int] | None:
    """Return which training rows are read in one of N epochs, shape (rows,), and N; None if all are read in each.

    Raises:
        UserError: ``--empty_rows_every`` is given, and rows with these labels cannot be empty.
    """
    asked = config.run.empty_rows_every
    if config.run.balanced_sampling or isinstance(splits.train, Stream):
        return None
    empty = splits.output.empty(splits.output.truth_of(splits.train))
    if empty is None:
        if asked is not None:
            what = f"no row is empty where labels are {splits.output.NAME}"
            raise UserError(what, where="--empty_rows_every", fix="leave the flag out.")
        return None
    every = asked or (EMPTY_ROWS_EVERY if empty.mean() > 0.5 else 1)
    if every == 1 or not empty.any():
        return None
    say(
        f"Empty rows: in {empty.sum():,} of {len(empty):,} training rows there is nothing to find; each is read in one of "
        f"{every} epochs (--empty_rows_every 1 reads all in each)."
    )
    return empty, every


def rows_of_epoch(splits: Splits, seldom: tuple[np.ndarray, int] | None) -> int:
    """Return the rows of an epoch, for an answer of :func:`seldom_read`."""
    if seldom is None:
        return len(splits.train)
    empty, every = seldom
    return len(EpochSampler(0, 1, empty=empty, every=every))
