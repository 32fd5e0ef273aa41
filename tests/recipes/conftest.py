"""What the end-to-end tests of training share."""

from __future__ import annotations

import alone
import pytest


@pytest.fixture
def training_alone(monkeypatch):
    """Runs train and are judged, without the baseline, what is written for people, and the rows for verification."""
    monkeypatch.setattr("hf_finetune.publish.verify", lambda *_: None)
    with alone.training_alone():
        yield
