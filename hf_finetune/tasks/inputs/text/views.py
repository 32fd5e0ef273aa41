"""Texts are read as they are: they have no random views and are not mixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hf_finetune.config.options import InputConfig
from hf_finetune.errors import UserError


def views(inputs: InputConfig, *, tunes_backbone: bool) -> InputConfig | None:
    """Return None: there are no random views of texts."""
    return None


def mixer(inputs: InputConfig, classes: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Refuse ``--mixup`` and ``--cutmix``."""
    raise UserError("texts cannot be mixed", where="--mixup, --cutmix", fix="leave the flags out.")
