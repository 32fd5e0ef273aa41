"""Count the rows that are read in several chunks or windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_finetune.tasks.task import Shortened


@dataclass
class InChunks(Shortened):
    """A counter of rows in several chunks; ``row`` of an encoded chunk is the number of its row."""

    rows: int = 0
    long: int = 0  # rows of several chunks
    chunks: int = 0  # of these rows

    def add(self, encoded: Any) -> None:
        if "row" in getattr(encoded, "column_names", ()):
            counts = np.unique(encoded["row"][:], return_counts=True)[1]
            self.rows += len(counts)
            self.long += int((counts > 1).sum())
            self.chunks += int(counts[counts > 1].sum())
