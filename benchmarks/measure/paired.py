"""Paired runs: every side in a process of its own, the sides alternating, medians and ratios over the pairs, one table."""

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
    """The flags that every script has."""
    flags = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--shared", type=Path, help="folder with data/<name>/ and models/<name>/ (default: the demo's)")
    flags.add_argument("--repeats", type=int, default=3, help="paired runs; the table holds their medians (default: 3)")
    flags.add_argument("--quick", action="store_true", help="tiny and once, to see that the script works")
    return flags


def run_side(side: str, *, bare: bool = False, **arguments: Any) -> Run:
    """Call a function of this folder in a process of its own, with empty caches of its own.

    Args:
        side: ``module:function``, e.g. ``sides:ours``.
        bare: start from a bare interpreter, so that peak memory counts only what this side imports. Otherwise the process
            is forked from one that has imported the libraries and done nothing else, where that is safe.
        arguments: of the function; JSON.

    Returns:
        What the function returns, and ``peak_mb``, ``device`` and (on a GPU) ``peak_gpu_mb`` of the process.

    Raises:
        SystemExit: the side failed; with the end of what it said.
    """
    with TemporaryDirectory(prefix="benchmark-") as scratch:
        words = (side, json.dumps(arguments), scratch)
        status = _interpreter(words) if bare or not _forks_safely() else _fork(words)
        if status:
            said = (Path(scratch) / "output").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"{side} failed with {arguments}\n{said[-4000:]}")
        return json.loads((Path(scratch) / "answer.json").read_text(encoding="utf-8"))


def _forks_safely() -> bool:
    """A GPU that the libraries have looked at while they were imported is lost to forked processes."""
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
    """Processes find this folder, and ask nothing of the Hub."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(FOLDER) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER), *filter(None, paths)])
    os.environ["HF_HUB_OFFLINE"] = "1"


def alternate(
    sides: Mapping[str, tuple[str, Mapping[str, Any]]], repeats: int, *, bare: bool = False
) -> dict[str, list[Run]]:
    """Run all sides once per repeat, every second time in reverse: what drifts does not favour a side.

    Args:
        sides: by name, the side and its arguments; see :func:`run_side`.
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
    """The order of the sides in one repeat."""
    return list(names) if repeat % 2 == 0 else list(reversed(names))


def median(runs: Sequence[Run], key: str) -> float:
    """The median of one figure over the runs of a side."""
    return middle(values(runs, key))


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios within the pairs, which is not the ratio of the medians.

    Raises:
        ValueError: the sides have unlike numbers of runs.
    """
    return statistics.median(one / other for one, other in zip(above, below, strict=True))


def middle(figures: Sequence[float]) -> float:
    """The median."""
    return statistics.median(figures)


def values(runs: Sequence[Run], key: str) -> list[float]:
    """One figure of every run of a side."""
    return [run[key] for run in runs]


def steady_epochs(runs: Sequence[Run]) -> list[float]:
    """Seconds of an epoch of every run: the median of its epochs from the second on."""
    return [statistics.median(run["epoch_seconds"][1:]) for run in runs]


def on_gpu(runs: Mapping[str, Sequence[Run]]) -> bool:
    """Whether the sides ran on a GPU."""
    return any(run["device"] == "cuda" for side in runs.values() for run in side)


def require_equal(runs: Mapping[str, Sequence[Run]], key: str) -> None:
    """Sides that do unlike work are not compared.

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
    """Print the table, and write it with all single runs to ``results/``.

    Args:
        script: the ``__file__`` of the script.
        flags: what it was called with; a quick run writes to a file of its own.
        title: of the table.
        columns: their names.
        rows: cells; numbers are rounded to three digits in print.
        runs: the single runs.
    """
    title = f"Quick, says nothing: {title}" if flags.quick else title
    show_table(title, columns, [[shown(cell) for cell in row] for row in rows])
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


def shown(cell: Any) -> str:
    """A cell as the table shows it: three digits, none of them after the point from 100 on."""
    if not isinstance(cell, float):
        return str(cell)
    if abs(cell) >= 100:
        return f"{cell:.0f}"
    return f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"
