"""Push a run to the Hub in one commit, after checks before training; a failed push leaves the run folder complete."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType

from hf_finetune.config import Config
from hf_finetune.console import is_main_process, say
from hf_finetune.data import Splits
from hf_finetune.errors import Interrupted, UserError
from hf_finetune.evaluation.results import Results
from hf_finetune.publish.card import TIMING, model_card
from hf_finetune.publish.hub.access import client_errors, prepare_repository, preupload, to_user_error, with_retries
from hf_finetune.publish.hub.contents import (
    files_to_push,
    final_card,
    find_private,
    merged_model,
    refuse_leaks,
    run_settings,
)
from hf_finetune.publish.hub.destination import Destination, configured_destination
from hf_finetune.publish.verify.verify import verify_before_use
from hf_finetune.strategies import Plan
from hf_finetune.tasks.task import Task

LARGE = 10 * 1024 * 1024  # bytes; larger texts go to LFS before the commit, as all binary files do
# Weights of an earlier push would be loaded instead of new ones in another format, or in addition to them.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "pytorch_model*.bin")


def check_hub(config: Config, task: Task, splits: Splits, plan: Plan) -> Config:
    """Check before training that the run may be pushed, and create the repository and the branch.

    Return the configuration with the full name of the repository.

    Raises:
        UserError: see :func:`prepare_repository`; or a label would publish a local path.
    """
    if not config.training.get("push_to_hub") or not is_main_process():
        return config
    nothing_yet = Results({"timing": dict.fromkeys(TIMING, 0.0)}, judged="test")
    card = model_card(config, task, splits, plan, nothing_yet)
    to = configured_destination(config)
    private = find_private(config.output_dir, config.to_flat(), to.hub_token)
    refuse_leaks({f"the label {label!r}": label for label in splits.output.names}, private)
    to = prepare_repository(to, card)
    say(f"The model will be pushed to {_place(to)}.")
    return replace(config, training={**config.training, "hub_model_id": to.hub_model_id})


def push_run(config: Config) -> str | None:
    """Push a run that has just ended; return the URL of the commit or pull request, or None without ``--push_to_hub``.

    Raises:
        UserError: the Hub refused the push; the message has the command that repeats it.
        Interrupted: a signal came during the push.
    """
    if not config.training.get("push_to_hub") or not is_main_process():
        return None
    to, run = configured_destination(config), config.output_dir
    try:
        files = files_to_push(run, to)
    except UserError:
        say(f"Nothing was pushed; the run in {run} is complete. Fix the error, then run: {to.command(run)}")
        raise
    return upload(files, run, to)


def push_folder(run: Path, to: Destination) -> str:
    """Check, verify and push the run in a folder; return the URL of the commit or pull request.

    Raises:
        UserError: the run is not finished, has something private in its files, fails the verification, or the Hub
            refused the push.
        Interrupted: a signal came during the push.
    """
    with merged_model(run) if to.merged else nullcontext() as model:
        files = files_to_push(run, to, model)
        verify_before_use(run, trust_remote_code=bool(run_settings(run).get("trust_remote_code")))
        to = prepare_repository(to, final_card(run, to).decode())
        files["README.md"] = final_card(run, to)
        return upload(files, run, to)


def upload(files: Mapping[str, Path | bytes], run: Path, to: Destination) -> str:
    """Upload large files one by one, then commit all files at once; return the URL of the commit or pull request.

    Large files that an earlier try has uploaded are not sent again. ``files`` is name in the repository → file or content.

    Raises:
        UserError: the Hub refused the push, or could not be reached.
        Interrupted: SIGINT or SIGTERM came.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    _warn_of_local_base(run, to)
    api = HfApi(token=to.hub_token)
    large: list[str] = []
    uploaded: list[str] = []
    command = to.command(run)
    try:
        with _sigterm_raises():
            adds = {name: CommitOperationAdd(name, content) for name, content in files.items()}
            # The model before the figures of its card, and smaller files before larger ones.
            large += sorted(
                (name for name, add in adds.items() if b"\0" in add.upload_info.sample or add.upload_info.size > LARGE),
                key=lambda name: ("/" in name, adds[name].upload_info.size),
            )
            head = with_retries(lambda: api.model_info(to.hub_model_id, revision=to.hub_revision))
            top = {each.rfilename for each in head.siblings or [] if "/" not in each.rfilename} - files.keys()
            stale = sorted(name for name in top if any(fnmatch(name, pattern) for pattern in WEIGHTS))
            for name in large:
                preupload(api, to, adds[name])
                uploaded.append(name)
            commit = with_retries(
                lambda: api.create_commit(
                    to.hub_model_id,
                    operations=[*adds.values(), *map(CommitOperationDelete, stale)],
                    commit_message=to.commit_message,
                    revision=to.hub_revision,
                    create_pr=to.create_pr,
                    parent_commit=head.sha,  # also keeps a second try from committing twice
                )
            )
    except KeyboardInterrupt as stop:
        number = stop.args[0] if stop.args else signal.SIGINT
        state = _state(files, large, uploaded, run, to)
        raise Interrupted(int(number), f"{state}. To continue, run:\n  {command}") from None
    except client_errors() as error:
        state = f"; {_state(files, large, uploaded, run, to)}"
        raise to_user_error(error, to, state=state, command=command) from error
    for name in stale:
        say(f"Removed from {to.hub_model_id}, because it belongs to other weights: {name}")
    address = commit.pr_url if to.create_pr else commit.commit_url
    say(f"Pushed {len(files)} files to {_place(to)}: {address}")
    return str(address)


def _state(files: Mapping[str, object], large: list[str], uploaded: list[str], run: Path, to: Destination) -> str:
    """Return what was uploaded and what was not, as the end of a sentence."""
    waiting = [name for name in [*large, *(name for name in files if name not in large)] if name not in uploaded]
    said = f"uploaded: {', '.join(uploaded)}" if uploaded else "nothing was uploaded"
    unless = ", unless it succeeded before the connection was lost" if uploaded and uploaded == large else ""
    commit = f"no commit was made to {to.hub_model_id}{unless}"
    return f"{said}; not yet: {', '.join(waiting)}; {commit}; the run in {run} is complete"


def _place(to: Destination) -> str:
    branch = f", branch {to.hub_revision}" if to.hub_revision else ""
    return f"{to.hub_model_id}{branch}{', as a pull request' if to.create_pr else ''}"


def _warn_of_local_base(run: Path, to: Destination) -> None:
    """Warn that an adapter whose base is a local folder cannot be loaded elsewhere."""
    path = run / "model" / "adapter_config.json"
    if to.merged or not path.is_file():
        return
    base = Path(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])
    if base.exists():
        lacking = f"the adapter's base is the local folder {base.name}, which others do not have"
        say(f"Warning: {lacking}; --merged pushes the full model.")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Raise ``KeyboardInterrupt(SIGTERM)`` in the block on SIGTERM, as Python does on SIGINT."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
