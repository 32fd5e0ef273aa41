"""Find the checkpoint to resume from, and check that it belongs to this run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.errors import UserError
from hf_finetune.strategies import Phase

# With another value of these, the weights, optimiser state or steps of a checkpoint do not fit.
_IDENTITY = (
    "model_name_or_path",
    "model_revision",
    "head_hidden_size",
    "strategy",
    "lora_r",
    "lora_alpha",
    "lora_target_modules",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "seed",
)


def wants_resume(asked: Any) -> bool:
    """Return whether ``--resume_from_checkpoint`` asks to resume."""
    return asked not in (None, False) and str(asked).lower() != "false"


def _is_path(asked: Any) -> bool:
    return wants_resume(asked) and str(asked).lower() not in ("auto", "true")


def refuse_other_run(config: Config) -> None:
    """Check that a given checkpoint is in the ``checkpoints`` of this run, before anything is written.

    Raises:
        UserError: it belongs to another run, or is not a checkpoint.
    """
    asked = config.training.get("resume_from_checkpoint")
    if not _is_path(asked):
        return
    path, checkpoints = Path(str(asked)), config.output_dir / "checkpoints"
    where = f"--resume_from_checkpoint {path}"
    run = path.resolve().parent.parent.parent
    if not (path / "trainer_state.json").exists() or not (run / "config.yaml").exists():
        raise UserError(
            "this is not a checkpoint of a run", where=where, fix="give RUN/checkpoints/PHASE/checkpoint-N, or auto."
        )
    if path.resolve().parent.parent != checkpoints.resolve():
        found = _differences(run, config, tuple(config.to_flat()))
        differs = f"; its settings differ: {', '.join(found[:3])}{', …' if len(found) > 3 else ''}" if found else ""
        raise UserError(
            f"this checkpoint belongs to another run than --output_dir {config.output_dir}{differs}",
            where=where,
            fix=f"resume that run with --output_dir {path.parent.parent.parent} --resume_from_checkpoint auto.",
        )


def refuse_other_settings(config: Config) -> None:
    """Check that model, strategy, batch size and seed are those of the run that is resumed.

    Raises:
        UserError: settings differ from the run's ``config.yaml``; the message names them.
    """
    found = _differences(config.output_dir, config, _IDENTITY)
    if found:
        raise UserError(
            f"the run was started with other settings: {', '.join(found)}",
            where=f"--resume_from_checkpoint, {config.output_dir / 'config.yaml'}",
            fix="use the same settings, or start a new run in another --output_dir.",
        )


def _differences(run: Path, config: Config, names: tuple[str, ...]) -> list[str]:
    """Return ``name (old value, not new value)`` for each setting that differs from the configuration of a run."""
    try:
        then = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return []  # the folder has no readable configuration
    now = config.to_flat()
    skipped = ("output_dir", "resume_from_checkpoint", "overwrite_output_dir")
    return [
        f"{name} ({then[name]}, not {now.get(name)})"
        for name in names
        if isinstance(then, dict) and name in then and name not in skipped and str(then[name]) != str(now.get(name))
    ]


def phase_folder(folder: Path, number: int, phase: Phase) -> Path:
    """Return the folder for the checkpoints of a phase: ``checkpoints/1-head``, ``checkpoints/2-full``."""
    return folder / f"{number + 1}-{phase.name}"


def find_resume(folder: Path, phases: list[Phase], asked: Any) -> tuple[int, str | None]:
    """Return the index of the phase to resume, and its checkpoint; None starts the phase from its beginning.

    Args:
        folder: the ``checkpoints`` folder of the run.
        phases: the phases of the strategy.
        asked: the value of ``--resume_from_checkpoint``: None, ``auto`` (or ``true``), or the path of a checkpoint.

    Raises:
        UserError: the path is not a complete checkpoint of one of the phases.
    """
    if not wants_resume(asked):
        return 0, None
    if _is_path(asked):
        return _phase_of(Path(str(asked)), folder, phases)
    for number in reversed(range(len(phases))):
        here = phase_folder(folder, number, phases[number])
        last = last_checkpoint(here)
        if (here / "finished").is_dir():
            say(f"Resuming after phase {phases[number].name!r}.")
            return number + 1, None
        if last:
            say(f"Resuming from {last}.")
            return number, last
    say("There is no checkpoint yet: starting from the beginning.")
    return 0, None


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint of a phase; the state is written last, so an incomplete one lacks it."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _phase_of(path: Path, folder: Path, phases: list[Phase]) -> tuple[int, str]:
    match = re.match(r"(\d+)-", path.resolve().parent.name)
    number = int(match[1]) - 1 if match else -1
    if not 0 <= number < len(phases) or (
        path.resolve().parent.name != phase_folder(folder, number, phases[number]).name
    ):
        raise UserError(
            "this is not a checkpoint of a run with this strategy",
            where=f"--resume_from_checkpoint {path}",
            fix="give the strategy that the run was started with, or auto.",
        )
    if number > 0 and not (phase_folder(folder, number - 1, phases[number - 1]) / "finished").is_dir():
        raise UserError(
            f"the weights that phase {phases[number].name!r} starts from are missing",
            where=f"--resume_from_checkpoint {path}",
            fix="use auto, which resumes from the last complete checkpoint.",
        )
    return number, str(path)
