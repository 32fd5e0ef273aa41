"""The process of one side: calls its function and writes what it returns, with the peak memory of the process."""

from __future__ import annotations

import json
import os
import resource
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def main(side: str, arguments: str, scratch: str) -> None:
    """Call ``module:function``; what it prints goes to ``output`` in the scratch folder, the answer to ``answer.json``.

    Args:
        side: ``module:function`` of this folder.
        arguments: its keyword arguments, as JSON.
        scratch: a folder of this process alone, where its caches are too.
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
    """Let this process find nothing that another has kept."""
    os.environ["HF_FINETUNE_CACHE"] = str(folder / "cache")
    os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
    if "datasets" in sys.modules:  # it has read the environment already
        sys.modules["datasets.config"].HF_DATASETS_CACHE = folder / "datasets"


def peak_mb() -> float:
    """Peak resident memory of this process or of its largest child, whichever is more, in MB.

    The kernel's ``ru_maxrss`` begins with what the parent held when it started the process; ``VmHWM`` does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        own = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return max(own, children) / 1024
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit


def device() -> dict[str, Any]:
    """Where the side ran, and the peak of the memory of the GPU if it was one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {"device": "cpu"}
    return {"device": "cuda", "peak_gpu_mb": torch.cuda.max_memory_allocated() / 2**20}


if __name__ == "__main__":
    main(*sys.argv[1:])
