"""``hf-finetune check`` from end to end: status, report, and what it leaves behind."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import make_texts

from hf_finetune.checks.report import show_report, write_report
from hf_finetune.cli.main import main as hf_finetune
from hf_finetune.data.rows.finding import Section, Table


def write(path: Path, rows) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


@pytest.fixture
def check(tmp_path, checkpoints):
    """Runs the command on texts; returns the status and what ``check.json`` holds."""

    def run(rows, *flags, test=None):
        argv = ["check", "text-classification", "--model_name_or_path", checkpoints("bert")]
        argv += ["--train_file", write(tmp_path / "train.csv", rows), "--output_dir", str(tmp_path / "out")]
        argv += ["--test_file", write(tmp_path / "test.csv", test)] if test else []
        status = hf_finetune([*argv, *flags])
        file = tmp_path / "out" / "check.json"
        return status, json.loads(file.read_text()) if file.exists() else None

    return run


def unique_texts(count: int, seed: int = 0):
    return [(f"{text} {index}", label) for index, (text, label) in enumerate(make_texts(count, seed))]


def codes(report) -> list[str]:
    return [finding["code"] for finding in report["findings"]]


def test_good_rows_pass_even_strictly(check, tmp_path, capfd):
    status, report = check(unique_texts(120), "--strict")
    assert status == 0
    assert {finding["severity"] for finding in report["findings"]} <= {"info"}
    assert set(report["sections"]) == {"columns", "counts", "texts", "duplicates", "label_noise", "cost"}
    assert report["sections"]["counts"]["rows"] == {"train": 108, "validation": 12}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["check.html", "check.json"]
    assert "Findings: 0 errors, 0 warnings" in capfd.readouterr().out


def test_the_cost_is_measured_and_said_by_stage(check):
    flags = ("--strategy", "lp_ft", "--num_train_epochs", "3", "--per_device_train_batch_size", "4")
    _, report = check(unique_texts(120), *flags)
    head, full = report["sections"]["cost"]["phases"]
    assert (head["phase"], full["phase"], full["epochs"]) == ("head", "full", 3.0)
    assert [name for name, stage in head["stages"].items() if stage["train"]] == ["head"]
    assert all(stage["train"] == stage["parameters"] for stage in full["stages"].values())
    assert full["checkpoint_bytes"] > head["checkpoint_bytes"] > head["model_bytes"] > 0
    assert 0 < head["seconds_per_epoch"] < 600
    assert full["seconds_per_epoch"] == pytest.approx(full["read_seconds"] + full["step_seconds"])
    assert full["peak_memory_bytes"] > 50e6
    assert head["activation_cache_bytes"] > 0
    assert full["activation_cache_bytes"] is None


def test_warnings_pass_unless_strict(check, capfd):
    rows = [*unique_texts(120), ("the same twice", "positive"), ("the same twice", "negative")]
    status, report = check(rows)
    assert (status, "labels-conflict" in codes(report)) == (0, True)
    status, _ = check(rows, "--strict")
    assert status == 2
    error, fix = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error:", "fix:"))]
    assert re.match(r"error: .*the check found \d+ things? to fix; the first: labels-conflict: 1 inputs occur", error)
    assert "(first: train" in error
    assert fix == "fix: decide which label is right; if both are, the rows have several labels."


def test_errors_give_status_2_after_the_report_was_written(check, capfd):
    status, report = check([("the same", "positive"), ("the same", "negative")] * 30)
    assert status == 2
    assert codes(report)[0] == "input-constant"
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert lines[-2].startswith("error: train split: the check found 1 error to fix; the first: input-constant: all 54")
    assert lines[-1].startswith("fix: name the column")
    assert sum(line.startswith("error:") for line in lines) == 1


def test_leakage_is_told_with_both_ids(check):
    rows = unique_texts(120)
    _, report = check(rows, test=[rows[0], ("another one", "positive"), ("and another", "negative")])
    (leak,) = [f for f in report["findings"] if f["code"] == "leak-exact"]
    assert re.fullmatch(r"(train|validation) 0 \(positive\) = test 0 \(positive\)", leak["rows"][0])


def test_what_was_found_is_kept_where_the_checkpoint_cannot_be_loaded(check, tmp_path, capfd):
    status, report = check(unique_texts(60), "--model_name_or_path", str(tmp_path / "none"))
    assert status == 2
    assert set(report["sections"]) == {"columns", "counts", "texts", "duplicates"}
    assert "none" in capfd.readouterr().err


def test_data_that_cannot_be_read_leaves_no_report(check, tmp_path, capfd):
    status, report = check([])
    assert (status, report) == (2, None)
    assert not (tmp_path / "out").exists()


def test_bad_images_are_errors_and_the_others_are_still_judged(tmp_path, checkpoints, image_folder):
    root = tmp_path / "images"
    shutil.copytree(image_folder, root)
    image = sorted((root / "train" / "class 1").iterdir())[0]
    image.write_bytes(b"no image")
    argv = ["check", "image-classification", "--model_name_or_path", checkpoints("resnet"), "--dataset_name", str(root)]
    argv += ["--output_dir", str(tmp_path / "out")]
    assert hf_finetune(argv) == 2
    report = json.loads((tmp_path / "out" / "check.json").read_text())
    (bad,) = [f for f in report["findings"] if f["severity"] == "error"]
    assert (bad["code"], bad["where"]) == ("image-unreadable", "train split")
    assert bad["rows"][0].startswith(f"class 1/{image.name} (cannot identify")
    assert [phase["phase"] for phase in report["sections"]["cost"]["phases"]] == ["head", "full"]
    assert hf_finetune([*argv, "--on_bad_image", "skip"]) == 0


@pytest.mark.parametrize("words", [["check"], ["check", "--help"], ["check", "nonsense", "--help"]])
def test_how_it_is_called_is_said(words, capsys):
    with pytest.raises(SystemExit) as ended:
        hf_finetune(words)
    assert ended.value.code == 0
    assert "usage: hf-finetune check TASK [--strict]" in capsys.readouterr().out


def test_an_unknown_task_is_refused(capsys):
    assert hf_finetune(["check", "text-clasification"]) == 2
    assert "no task 'text-clasification'" in capsys.readouterr().err


def test_the_page_escapes_what_comes_from_data_and_loads_nothing(tmp_path):
    evil = "<script>alert(1)</script>\"'&"
    section = Section("Part", "part", facts={"x": evil}, sentences=[evil])
    section.tables = [Table(evil, (evil, "rows"), [(evil, 3)], bars=True), Table(evil, (evil,), [(evil,)])]
    section.add("code", "warning", evil, where=evil, rows=[evil], fix=evil)
    write_report(tmp_path, evil, [section])
    page = (tmp_path / "check.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 10
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert json.loads((tmp_path / "check.json").read_text())["sections"]["part"]["x"] == evil


def test_findings_are_told_errors_first(capsys):
    section = Section("Part", "part")
    for severity in ("info", "error", "warning"):
        section.add(f"code-{severity}", severity, "something", rows=[f"r{i}" for i in range(5)])
    show_report([section])
    said = capsys.readouterr().out
    assert "Findings: 1 error, 1 warning and 1 remark." in said
    assert said.index("code-error") < said.index("code-warning") < said.index("code-info")
    assert "r0; r1; r2; …" in said
