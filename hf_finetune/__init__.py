"""hf-finetune: fine-tune pretrained text and image models of the Hugging Face ecosystem, and trust the result."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# OpenMP threads that spin while they wait steal the cores of the threads that work, as soon as there are more threads
# than cores (several processes, data-loader workers). libgomp reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from hf_finetune.errors import UserError
    from hf_finetune.packaged import fine_tune

__version__ = "0.1.0"
__all__ = ["UserError", "__version__", "fine_tune"]

_EXPORTS = {"fine_tune": "hf_finetune.packaged", "UserError": "hf_finetune.errors"}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that ``import hf_finetune`` loads neither torch nor transformers."""
    if name in _EXPORTS:
        from importlib import import_module

        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'hf_finetune' has no attribute {name!r}")
