"""Half precision: what the hardware supports, and what the user asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def precision() -> dict[str, Any]:
    """Return the Trainer arguments for bf16 where the hardware supports it; none where ``accelerate`` has a precision."""
    if os.environ.get("ACCELERATE_MIXED_PRECISION", "no") != "no":
        return {}
    return {"bf16": True} if has_fast_bf16() else {}


def half_precision(training: Mapping[str, Any]) -> torch.dtype | None:
    """Return the dtype of autocast that these arguments of the Trainer, or else the hardware, ask for; None for float32."""
    given = {**precision(), **training}
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if given.get("bf16") or asked == "bf16":
        return torch.bfloat16
    return torch.float16 if given.get("fp16") or asked == "fp16" else None


def has_fast_bf16() -> bool:
    """Return whether the hardware multiplies matrices in bf16: Ampere GPUs and later, CPUs with AVX512-BF16 or AMX."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.accelerator.is_available():
        return False
    processors = Path("/proc/cpuinfo")
    return processors.exists() and bool({"avx512_bf16", "amx_bf16"} & set(processors.read_text().split()))
