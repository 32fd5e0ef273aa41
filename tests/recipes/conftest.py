"""What the end-to-end tests of training share."""

from __future__ import annotations

import pytest


@pytest.fixture
def training_alone(monkeypatch):
    """Runs train and are judged, without the baseline and what is written for people: half of the time of a tiny run.

    For tests of weights and losses.
    """
    monkeypatch.setattr("hf_finetune.evaluation.results.make_baseline", lambda *_: None)
    monkeypatch.setattr("hf_finetune.report.write_report", lambda *_: None)
    monkeypatch.setattr("hf_finetune.publish.verify", lambda *_: None)
    monkeypatch.setattr("hf_finetune.publish.write_model_card", lambda *_: None)
