"""Rows drawn so that classes are seen equally often."""

from __future__ import annotations

import numpy as np

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.data import Splits
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError


def sampling_classes(config: Config, splits: Splits) -> np.ndarray | None:
    """Return the class of each training row that ``--balanced_sampling`` draws by, shape (rows,); None without it.

    Of several classes a row counts as its rarest; rows of none are a class of their own.

    Raises:
        UserError: the rows are a stream.
    """
    if not config.run.balanced_sampling:
        return None
    if isinstance(splits.train, Stream):
        raise UserError(
            "rows of a stream come in their own order",
            where="--balanced_sampling",
            fix="give --class_weights balanced, or train without --streaming.",
        )
    classes = np.unique(splits.output.strata(splits.output.truth_of(splits.train)), return_inverse=True)[1]
    each = len(classes) / (classes.max() + 1)
    counts = np.bincount(classes)
    say(
        f"Balanced sampling: each class gives {each:.0f} of the {len(classes)} rows of an epoch; classes have "
        f"{counts.min()} to {counts.max()} training rows."
    )
    return classes
