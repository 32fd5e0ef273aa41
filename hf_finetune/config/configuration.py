"""Everything that a run was asked to do, and what of it is secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hf_finetune.config.options import (
    CONCERNS,
    CacheConfig,
    DataConfig,
    InputConfig,
    ModelConfig,
    RunConfig,
    StrategyConfig,
)

# Never written to config.yaml, environment.json, a card or a log.
SECRETS = frozenset({"hub_token"})


@dataclass(frozen=True)
class Config:
    """Everything that a run was asked to do. It is never written to: ``dataclasses.replace`` makes another.

    ``training`` holds the ``TrainingArguments`` fields that were set; ``explicit`` the names of all keys that were.
    """

    model: ModelConfig
    data: DataConfig
    inputs: InputConfig
    cache: CacheConfig
    strategy: StrategyConfig
    run: RunConfig
    training: Mapping[str, Any]
    explicit: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Keep a copy of ``training`` that cannot be written to."""
        object.__setattr__(self, "training", MappingProxyType(dict(self.training)))

    @property
    def output_dir(self) -> Path:
        """Return the run folder."""
        return Path(self.training["output_dir"])

    def to_flat(self) -> dict[str, Any]:
        """Return all keys that have a value, as YAML holds them; secrets are left out."""
        parts = [asdict(getattr(self, concern)) for concern in CONCERNS]
        flat = {key: value for part in [*parts, self.training] for key, value in part.items()}
        return {key: value for key, value in flat.items() if value is not None and key not in SECRETS}


def without_secrets(argv: list[str]) -> list[str]:
    """Return a command line without the values of secret flags."""
    clean, hide = [], False
    for word in argv:
        flag, _, value = word.lstrip("-").replace("-", "_").partition("=")
        if hide:
            word = "***"
        elif flag in SECRETS and value:
            word = word.split("=", 1)[0] + "=***"
        hide = word.startswith("--") and flag in SECRETS and not value
        clean.append(word)
    return clean
