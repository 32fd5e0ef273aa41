"""Mean and spread of the metrics of runs that differ only in their seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.console import show_table
from hf_finetune.files import write_json


def summarise_seeds(folder: Path, metrics: dict[int, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Write ``seeds.json`` from seed → the content of ``metrics.json``, print a table, and return the content.

    It has ``seeds``; and for each held-out split and metric ``mean``, ``std`` (with n - 1; 0 for one run), ``min``,
    ``max``, and ``values`` in the order of ``seeds``.
    """
    found: dict[str, Any] = {"seeds": list(metrics)}
    for split in ("validation", "test"):
        runs = [each[split] for each in metrics.values() if split in each]
        if runs:
            names = [name for name in runs[0] if all(name in run for run in runs)]
            found[split] = {name: _spread([run[name] for run in runs]) for name in names}
    write_json(folder / "seeds.json", found)
    split = "test" if "test" in found else "validation"
    keys = ("mean", "std", "min", "max")
    rows = [(name, *(f"{s[key]:.4f}" for key in keys)) for name, s in found.get(split, {}).items() if name != "rows"]
    title = f"{len(metrics)} seeds ({', '.join(map(str, metrics))}), {split} rows"
    show_table(title, ("metric", "mean", "standard deviation", "lowest", "highest"), rows)
    return found


def _spread(values: list[float]) -> dict[str, Any]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "min": min(values), "max": max(values), "values": values}
