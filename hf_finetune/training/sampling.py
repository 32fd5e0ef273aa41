"""Which training rows an epoch reads."""

from __future__ import annotations

import numpy as np

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError


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
