"""The report of a run, made from the files of its folder."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

from hf_finetune.console import is_main_process
from hf_finetune.evaluation.run_folder import read_evaluation, read_json
from hf_finetune.files import public_name, writing
from hf_finetune.report import figures
from hf_finetune.report.render import render, write_page

HTML = "report.html"
_TARGETS = 6  # targets of a regression that get figures, at most
_EMPTY: dict[str, Any] = {
    "task": "", "problem": None, "labels": [], "judged": "", "rows": 0, "checkpoint": "", "source": "", "headline": None,
    "metrics": [], "per_label": {}, "confusion": None, "calibration": None, "numbers": None, "tables": {}, "top_losses": [],
    "label_errors": [], "slices": [], "data": {}, "strategy": [],
}  # fmt: skip


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write the report of a run atomically, in the main process, by default to ``report.html``; return its path."""
    path = output or folder / HTML
    if not is_main_process():
        return path
    text = report_page(folder)
    with writing("report", str(path), "choose another file with --output."):
        write_page(path, text)
    return path


def report_page(folder: Path, *, public: bool = False) -> str:
    """Return the HTML of the report; if ``public``, without folders of local paths, the command line, and rows of the data."""
    run = _read_run(folder)
    if public:
        run = _without_paths(run)
        run["evaluation"] |= {"top_losses": [], "label_errors": [], "tables": {}}
    e = run["evaluation"]
    strategy = _strategy_table(e["strategy"])
    curves = figures.draw_curves(run["history"], (e["headline"] or {}).get("metric", ""))
    timing = [(_spaced(key), _timing(key, value)) for key, value in run["metrics"].get("timing", {}).items()]
    contents = [
        ("metrics", "Metrics", e["metrics"]),
        ("curves", "Learning curves", curves),
        ("confusion", "Confusion", e["confusion"]),
        ("labels", "By label", e["per_label"]),
        ("calibration", "Calibration", e["calibration"]),
        ("numbers", "Predicted numbers", e["numbers"]),
        ("tables", "Details", e["tables"]),
        ("slices", "Slices", any(each["values"] for each in e["slices"])),
        ("losses", "Top losses", e["top_losses"]),
        ("errors", "Likely label errors", e["label_errors"]),
        ("data", "Data", e["data"].get("splits")),
        ("check", "Findings of the check", run["check"]),
        ("strategy", "Strategy", strategy),
        ("timing", "Time and memory", timing),
        ("configuration", "Configuration", True),
    ]
    return render(
        Path(__file__).with_name("report.html.j2"),
        **run,
        e=e,
        contents=contents,
        name=folder.resolve().name,
        with_baseline=any(row.get("baseline") is not None for row in e["metrics"]),
        weakest=_weakest(e["per_label"]),
        headline=figures.draw_headline(e["headline"]),
        curves=curves,
        phases=figures.phases_of(run["history"]),
        confusion=figures.draw_confusion(e["confusion"]),
        reliability=figures.draw_reliability(e["calibration"]),
        targets=[(t["name"], figures.draw_numbers(i, t)) for i, t in enumerate((e["numbers"] or [])[:_TARGETS])],
        strategy=strategy,
        counts=_class_counts(e["data"].get("splits", {})),
        timing=timing,
        command="" if public else _in_lines(run["environment"].get("command", [])),
        again=_in_lines(["hf-finetune", "train", e["task"], "--config", "config.yaml", "--output_dir", "runs/again"]),
        number=_number,
        short=lambda value: _number(value, 3),
        words=_words,
        spaced=_spaced,
    )


def _read_run(folder: Path) -> dict[str, Any]:
    """Return the content of a run's files; optional files that are missing are empty."""
    config = folder / "config.yaml"
    optional: dict[str, Any] = {"metrics": {}, "history": [], "environment": {}, "check": {}}
    return {
        "evaluation": _EMPTY | read_evaluation(folder),
        "config": config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        **{name: read_json(folder / f"{name}.json", empty) for name, empty in optional.items()},
    }


def _without_paths(run: dict[str, Any]) -> dict[str, Any]:
    """Return the run with all paths that its configuration names reduced to their last part."""
    import yaml

    values = [value for value in (yaml.safe_load(run["config"]) or {}).values() if isinstance(value, str)]
    text = json.dumps(run, ensure_ascii=False)
    for value in sorted({v.rstrip("/\\") for v in values if set(v) & {"/", "\\"}}, key=len, reverse=True):
        quoted, name = (json.dumps(part, ensure_ascii=False)[1:-1] for part in (value, public_name(value)))
        text = text.replace(quoted, name)
    return json.loads(text)


def _strategy_table(strategy: list[dict[str, Any]]) -> list[tuple[str, int, list[str]]]:
    """Return (stage, number of weights, learning rate in each phase or "frozen") of each stage."""
    found: dict[str, tuple[str, int, list[str]]] = {}
    for number, phase in enumerate(strategy):
        for stage in phase["stages"]:
            row = (stage["stage"], stage["parameters"], ["frozen"] * len(strategy))
            cells, rate = found.setdefault(stage["stage"], row)[2], stage.get("learning_rate")
            if stage["trainable"]:
                part = "" if stage["trainable"] == stage["parameters"] else f" ({stage['trainable']:,} weights)"
                cells[number] = f"{'trains' if rate is None else f'{rate:.2e}'}{part}"
    return list(found.values())


def _weakest(per_label: dict[str, dict[str, float]]) -> list[tuple[str, float]]:
    """Return the three labels with the lowest F1; none if there are no more than three."""
    scores = [(name, figures["f1"]) for name, figures in per_label.items() if "f1" in figures]
    return sorted(scores, key=lambda pair: pair[1])[:3] if len(scores) > 3 else []


def _class_counts(splits: dict[str, Any]) -> list[tuple[str, list[int]]]:
    """Return (class, rows in each split); empty if rows have no classes."""
    names = dict.fromkeys(name for split in splits.values() for name in split.get("counts") or {})
    return [(name, [(split.get("counts") or {}).get(name, 0) for split in splits.values()]) for name in names]


def _in_lines(words: list[Any]) -> str:
    """Return a command for the shell with one flag per line, and the program's name without its folder."""
    parts = [shlex.quote(str(word)) for word in ([Path(str(words[0])).name, *words[1:]] if words else [])]
    return "".join(f" \\\n    {word}" if word.startswith("--") else f" {word}" for word in parts).strip()


def _timing(key: str, value: float) -> str:
    if key.endswith("_seconds"):
        return f"{value:.1f} s" if value < 90 else f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"
    if key.endswith("_bytes"):
        return f"{value / 1e6:,.0f} MB" if value < 1e9 else f"{value / 1e9:.2f} GB"
    return _number(int(value) if float(value).is_integer() else value)


def _number(value: Any, digits: int = 4) -> str:
    """Return a number in a readable format; a dash if there is none."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return str(value) if isinstance(value, str) else "–"
    if float(value).is_integer() and (isinstance(value, int) or abs(value) >= 1000):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0 < abs(value) < 0.1**digits:
        return f"{value:.1e}"
    return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.{max(digits - 2, 1)}f}"


def _words(value: Any) -> str:
    """Return labels or numbers as text."""
    if isinstance(value, list):
        return ", ".join(_words(each) for each in value) or "none"
    return _number(value, 3) if isinstance(value, float) else str(value)


def _spaced(key: str) -> str:
    """Return ``train head`` for ``train_head_seconds``."""
    return key.removesuffix("_seconds").removesuffix("_bytes").replace("_", " ")
