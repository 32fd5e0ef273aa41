"""``hf-finetune evaluate``: columns that are named take the place of the run's own."""

from __future__ import annotations

import pytest

from hf_finetune.cli.evaluate import main


@pytest.mark.parametrize(
    ("flag", "own", "kept"),
    [("text_column", "text_columns", "label_columns"), ("label_column", "label_columns", "text_columns")],
)
def test_a_column_that_is_named_takes_the_place_of_several(flag, own, kept, tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text(
        "model_name_or_path: model\ntrain_file: rows.csv\ntext_columns: [title, body]\nlabel_columns: [x, y]\noutput_dir: out\n"
    )
    seen = {}
    monkeypatch.setattr(
        "hf_finetune.evaluation.reevaluate.reevaluate",
        lambda run, config, *rest, **options: seen.update(data=config.data),
    )
    monkeypatch.setattr("hf_finetune.report.write_report", lambda folder: folder)
    main([str(tmp_path), "--test_file", "other.csv", f"--{flag}", "z"])
    assert (getattr(seen["data"], flag), getattr(seen["data"], own)) == ("z", None)
    assert len(getattr(seen["data"], kept)) == 2
