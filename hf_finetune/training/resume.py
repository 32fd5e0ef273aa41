"""Find the checkpoint to resume from, and check that it belongs to this run."""

from __future__ import annotations

from pathlib import Path

import yaml

from hf_finetune.config import Config
from hf_finetune.console import say
from hf_finetune.errors import UserError

# With another value of these, the weights, optimiser state or steps of a checkpoint do not fit.
_STEP = ("per_device_train_batch_size", "gradient_accumulation_steps", "seed")
_LORA = ("lora_r", "lora_alpha", "lora_target_modules")
_IDENTITY = ("model_name_or_path", "model_revision", "head_hidden_size", "strategy", *_LORA, *_STEP)


def wants_resume(config: Config) -> bool:
    """Return whether ``--resume_from_checkpoint`` asks to resume."""
    return str(config.training.get("resume_from_checkpoint")).lower() not in ("none", "false")


def _named_checkpoint(config: Config) -> Path | None:
    """Return the checkpoint to resume from, if the user named one."""
    asked = str(config.training.get("resume_from_checkpoint"))
    return Path(asked) if wants_resume(config) and asked.lower() not in ("auto", "true") else None


def refuse_other_run(config: Config) -> None:
    """Check that a given checkpoint is in the ``checkpoints`` of this run, before anything is written.

    Raises:
        UserError: it belongs to another run, or is not a checkpoint.
    """
    path = _named_checkpoint(config)
    if path is None:
        return
    where = f"--resume_from_checkpoint {path}"
    run = path.resolve().parent.parent.parent
    if not (path / "trainer_state.json").exists() or not (run / "config.yaml").exists():
        raise UserError(
            "this is not a checkpoint of a run", where=where, fix="give RUN/checkpoints/PHASE/checkpoint-N, or auto."
        )
    if path.resolve().parent.parent != (config.output_dir / "checkpoints").resolve():
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


def find_resume(config: Config, folders: list[Path]) -> tuple[int, str | None]:
    """Return the index of the phase to resume, and its checkpoint; None starts the phase from its beginning.

    Args:
        config: its ``--resume_from_checkpoint`` is missing, ``auto`` (or ``true``), or the path of a checkpoint.
        folders: those of the phases' checkpoints: ``checkpoints/1-head``, ``checkpoints/2-full``.

    Raises:
        UserError: the path is not a complete checkpoint of one of the phases.
    """
    if not wants_resume(config):
        return 0, None
    path = _named_checkpoint(config)
    if path is not None:
        return _phase_of(path, folders), str(path)
    for number, folder in reversed(list(enumerate(folders))):
        if (folder / "finished").is_dir():
            say(f"Resuming after phase {folder.name.partition('-')[2]!r}.")
            return number + 1, None
        if last := last_checkpoint(folder):
            say(f"Resuming from {last}.")
            return number, last
    say("There is no checkpoint yet: starting from the beginning.")
    return 0, None


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint of a phase; the state is written last, so an incomplete one lacks it."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _phase_of(path: Path, folders: list[Path]) -> int:
    where = f"--resume_from_checkpoint {path}"
    names = [folder.name for folder in folders]
    if path.resolve().parent.name not in names:
        raise UserError(
            "this is not a checkpoint of a run with this strategy",
            where=where,
            fix="give the strategy that the run was started with, or auto.",
        )
    number = names.index(path.resolve().parent.name)
    if number > 0 and not (folders[number - 1] / "finished").is_dir():
        raise UserError(
            f"the weights that phase {names[number].partition('-')[2]!r} starts from are missing",
            where=where,
            fix="use auto, which resumes from the last complete checkpoint.",
        )
    return number
