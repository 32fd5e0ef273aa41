"""The process of one side: calls its function and writes the result with the peak memory of the process."""

from __future__ import annotations

import json
import os
import resource
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def main(side: str, arguments: str, scratch: str) -> None:
    """Call ``module:function``; write its output to ``output`` in the scratch folder, its result to ``answer.json``.

    Args:
        side: ``module:function`` in this folder.
        arguments: its keyword arguments, as JSON.
        scratch: a folder for this process only, which also holds its caches.
    """
    output = os.open(f"{scratch}/output", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    empty_caches(Path(scratch))
    module, _, function = side.partition(":")
    found = getattr(import_module(f"measure.{module}"), function)(**json.loads(arguments))
    answer = (found or {}) | {"peak_mb": peak_mb()} | device()
    (Path(scratch) / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def empty_caches(folder: Path) -> None:
    """Give this process its own, empty caches."""
    os.environ["HF_FINETUNE_CACHE"] = str(folder / "cache")
    os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
    if "datasets" in sys.modules:  # it has already read the environment
        sys.modules["datasets.config"].HF_DATASETS_CACHE = folder / "datasets"


def peak_mb() -> float:
    """Return the larger of the peak resident memory of this process and that of its largest child, in MB.

    ``ru_maxrss`` starts with the memory of the parent when it started the process; ``VmHWM`` does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        own = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return max(own, children) / 1024
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit


def device() -> dict[str, Any]:
    """Return the device that the side ran on, with the peak GPU memory."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {"device": "cpu"}
    return {"device": "cuda", "peak_gpu_mb": torch.cuda.max_memory_allocated() / 2**20}


if __name__ == "__main__":
    main(*sys.argv[1:])
