"""Peak memory: of the GPU, or, without one, of the process."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def reset_peak_memory() -> None:
    """Reset the peak, where the system allows it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Return the peak in bytes since the last reset; without a GPU and Linux, since the process started."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
