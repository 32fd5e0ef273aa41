"""What the end-to-end tests of training share."""

from __future__ import annotations

import pytest
from alone import train_alone


@pytest.fixture
def training_alone(monkeypatch):
    """Runs train and are judged, without the baseline, what is written for people, and the rows for verification."""
    monkeypatch.setattr("hf_finetune.publish.verify", lambda *_: None)
    train_alone(monkeypatch)
