"""Training without what is made from its result, for tests of weights, losses and answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def training_alone() -> Iterator[None]:
    """Runs train, are judged and saved, and leave out what :func:`train_alone` does."""
    with pytest.MonkeyPatch.context() as patch:
        train_alone(patch)
        yield


def train_alone(patch: pytest.MonkeyPatch) -> None:
    """Leave out the baseline and what is written for people: half of the time of a tiny run."""
    patch.setattr("hf_finetune.evaluation.results.make_baseline", lambda *_: None)
    patch.setattr("hf_finetune.report.write_report", lambda *_: None)
    patch.setattr("hf_finetune.publish.write_model_card", lambda *_: None)
