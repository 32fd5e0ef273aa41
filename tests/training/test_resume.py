"""Which checkpoint a run resumes from."""

from __future__ import annotations

from hf_finetune.training.resume import last_checkpoint


def test_the_newest_complete_checkpoint_is_taken(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for step in (5, 10, 9):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-15").mkdir()  # cut short: its state is written last
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
