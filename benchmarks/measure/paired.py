"""Paired runs: each side in its own process, in alternating order, with medians and ratios over the pairs."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hf_finetune.console import show_table
from hf_finetune.files import write_json
from measure import child

FOLDER = Path(__file__).resolve().parents[1]

Run = dict[str, Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the flags that all scripts share."""
    flags = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--shared", type=Path, help="folder with data/<name>/ and models/<name>/ (default: the demo's)")
    flags.add_argument("--repeats", type=int, default=3, help="paired runs; the table shows their medians (default: 3)")
    flags.add_argument("--quick", action="store_true", help="one tiny run, to test the script")
    return flags


def run_side(side: str, *, bare: bool = False, **arguments: Any) -> Run:
    """Call a function of this folder in its own process, with its own, empty caches.

    Args:
        side: ``module:function``, e.g. ``sides:ours``.
        bare: start from a new interpreter, so that peak memory counts only what this side imports. Otherwise, if it is
            safe, the process is forked from one that has only imported the libraries.
        arguments: keyword arguments of the function, JSON-serialisable.

    Returns:
        The result of the function, and ``peak_mb``, ``device`` and (on a GPU) ``peak_gpu_mb`` of the process.

    Raises:
        SystemExit: the side failed; the message ends with its last output.
    """
    with TemporaryDirectory(prefix="benchmark-") as scratch:
        words = (side, json.dumps(arguments), scratch)
        status = _interpreter(words) if bare or not _forks_safely() else _fork(words)
        if status:
            said = (Path(scratch) / "output").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"{side} failed with {arguments}\n{said[-4000:]}")
        return json.loads((Path(scratch) / "answer.json").read_text(encoding="utf-8"))


def _forks_safely() -> bool:
    """Return whether forking is safe: a GPU that was initialised during imports cannot be used in forked processes."""
    return sys.platform == "linux" and not any(Path(gpu).exists() for gpu in ("/dev/nvidiactl", "/dev/kfd"))


def _interpreter(words: Sequence[str]) -> int:
    _set_environment()
    return subprocess.run([sys.executable, "-m", "measure.child", *words], check=False).returncode


def _fork(words: Sequence[str]) -> int:
    _set_environment()
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["measure.libraries"])
    process = server.Process(target=child.main, args=words)
    process.start()
    process.join()
    return int(process.exitcode or 0)


def _set_environment() -> None:
    """Let child processes import this folder, and keep them offline."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(FOLDER) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER), *filter(None, paths)])
    os.environ["HF_HUB_OFFLINE"] = "1"


def alternate(
    sides: Mapping[str, tuple[str, Mapping[str, Any]]], repeats: int, *, bare: bool = False
) -> dict[str, list[Run]]:
    """Run all sides once per repeat, in reverse order every second time, so that drift favours no side.

    Args:
        sides: name → side and its arguments; see :func:`run_side`.
        repeats: runs of each side.
        bare: see :func:`run_side`.
    """
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name in order(list(sides), repeat):
            print(f"{repeat + 1}/{repeats} {name}", file=sys.stderr, flush=True)
            side, arguments = sides[name]
            runs[name].append(run_side(side, bare=bare, **arguments))
    return runs


def order(names: Sequence[str], repeat: int) -> list[str]:
    """Return the order of the sides in one repeat."""
    return list(names) if repeat % 2 == 0 else list(reversed(names))


def median_of(runs: Sequence[Run], key: str) -> float:
    """Return the median of one figure over the runs of a side."""
    return median(values(runs, key))


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios within the pairs, which is not the ratio of the medians.

    Raises:
        ValueError: the sides have different numbers of runs.
    """
    return statistics.median(one / other for one, other in zip(above, below, strict=True))


def median(figures: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(figures)


def values(runs: Sequence[Run], key: str) -> list[float]:
    """Return one figure of each run of a side."""
    return [run[key] for run in runs]


def steady_epochs(runs: Sequence[Run]) -> list[float]:
    """Return the seconds per epoch of each run: the median of its epochs from the second on."""
    return [statistics.median(run["epoch_seconds"][1:]) for run in runs]


def on_gpu(runs: Mapping[str, Sequence[Run]]) -> bool:
    """Return whether the sides ran on a GPU."""
    return any(run["device"] == "cuda" for side in runs.values() for run in side)


def require_equal(runs: Mapping[str, Sequence[Run]], key: str) -> None:
    """Refuse to compare sides that differ in this figure.

    Raises:
        SystemExit: the figure differs between the sides.
    """
    found = {name: sorted({run[key] for run in side}) for name, side in runs.items()}
    if len({value for side in found.values() for value in side}) > 1:
        raise SystemExit(f"the sides differ in {key}: {found}")


def publish(
    script: str,
    flags: argparse.Namespace,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    runs: Mapping[str, Any],
) -> None:
    """Print the table, and write it with all runs to ``results/``.

    Args:
        script: the ``__file__`` of the script.
        flags: its flags; a quick run writes to a separate file.
        title: title of the table.
        columns: names of the columns.
        rows: cells; numbers are rounded to three digits when printed.
        runs: the individual runs.
    """
    title = f"Quick test, not a measurement: {title}" if flags.quick else title
    show_table(title, columns, [[format_cell(cell) for cell in row] for row in rows])
    results = FOLDER / "results"
    results.mkdir(exist_ok=True)
    content = {
        "title": title,
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "load": os.getloadavg()},
        "versions": {name: metadata.version(name) for name in ("hf-finetune", "torch", "transformers", "accelerate")},
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        "runs": runs,
    }
    write_json(results / f"{Path(script).stem}{'-quick' if flags.quick else ''}.json", content)


def format_cell(cell: Any) -> str:
    """Format a cell with three significant digits, without decimals from 100 on."""
    if not isinstance(cell, float):
        return str(cell)
    if abs(cell) >= 100:
        return f"{cell:.0f}"
    return f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"
