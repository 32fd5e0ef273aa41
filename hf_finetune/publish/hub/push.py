"""Push a run to the Hub: checked before training, in one commit, and whole on disk whatever happens on the way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from huggingface_hub import get_token

from hf_finetune.config import Config
from hf_finetune.console import is_main_process, say
from hf_finetune.data import Splits
from hf_finetune.errors import Stopped, UserError
from hf_finetune.evaluation.results import Results
from hf_finetune.publish.card import TIMING, model_card
from hf_finetune.publish.hub.access import open_repository
from hf_finetune.publish.hub.answers import client_errors, explain, patiently
from hf_finetune.publish.hub.contents import contents, named_card, run_settings
from hf_finetune.publish.hub.destination import Destination, destination_of
from hf_finetune.publish.hub.merged import merged_model
from hf_finetune.publish.hub.private import private_of, refuse_leaks
from hf_finetune.publish.verify.verify import verify_before_use
from hf_finetune.strategies import Plan
from hf_finetune.tasks import Task

LARGE = 10 * 1024 * 1024  # bytes; the Hub takes larger texts through LFS too
# Weights of an earlier push: beside those of another kind they would be loaded instead, or as well.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "pytorch_model*.bin")


def check_hub(config: Config, task: Task, splits: Splits, plan: Plan) -> None:
    """Make sure, before an hour of training, that the run may be pushed, and make the repository and the branch.

    Raises:
        UserError: whatever :func:`open_repository` refuses, or a label that would publish a local path.
    """
    if not config.training.get("push_to_hub") or not is_main_process():
        return
    nothing_yet = Results({"timing": dict.fromkeys(TIMING, 0.0)}, judged="test")
    card = model_card(config, task, splits, plan, nothing_yet)
    to = destination_of(config)
    private = private_of(config.output_dir, config.to_flat(), to.hub_token or get_token())
    refuse_leaks({f"the label {label!r}": label for label in splits.labels}, private)
    to = open_repository(to, card)
    config.training["hub_model_id"] = to.hub_model_id
    say(f"The model will be pushed to {_place(to)}.")


def push_run(config: Config) -> str | None:
    """Push the run that has just ended, where ``--push_to_hub`` asked for it.

    Returns:
        The address of the commit or of the pull request; None where nothing was to be pushed.

    Raises:
        UserError: the Hub refused; the run folder is whole, and the message says how to go on.
        Stopped: a signal came while the run was pushed.
    """
    if not config.training.get("push_to_hub") or not is_main_process():
        return None
    to, run = destination_of(config), config.output_dir
    try:
        files = contents(run, to)
    except UserError:
        say(f"Nothing was pushed; the run in {run} is whole. Once that is mended: {to.command(run)}")
        raise
    _warn_of_local_base(run, to)
    return upload(files, run, to)


def push_folder(run: Path, to: Destination) -> str:
    """Push the run that stands in a folder: check what is pushed, verify it, ask whether it may be pushed, and push it.

    Returns:
        The address of the commit or of the pull request.

    Raises:
        UserError: no finished run, something private in it, a model that does not give what was measured, or the Hub refused.
        Stopped: a signal came while the run was pushed.
    """
    with merged_model(run) if to.merged else nullcontext() as model:
        files = contents(run, to, model)
        verify_before_use(run, trust_remote_code=bool(run_settings(run).get("trust_remote_code")))
        card = files["README.md"]
        text = card.decode() if isinstance(card, bytes) else card.read_text(encoding="utf-8")
        to = open_repository(to, text)
        files["README.md"] = named_card(run, to)  # its code names the repository, now with its namespace
        _warn_of_local_base(run, to)
        return upload(files, run, to)


@dataclass
class _Sent:
    """How far a push came: the large files that the Hub has, those that it has not, and the small ones of the commit."""

    large: list[str]
    small: list[str]
    done: list[str] = field(default_factory=list)
    committing: bool = False

    def state(self, run: Path, to: Destination) -> str:
        """What was uploaded and what was not, as the tail of a sentence."""
        waiting = [name for name in self.large if name not in self.done] + self.small
        kept = f"uploaded, and kept by the Hub: {', '.join(self.done)}" if self.done else "nothing was uploaded"
        if self.committing:
            seen = f"nothing shows in {to.hub_model_id} unless the commit came through before the answer was lost"
        else:
            seen = f"nothing of it shows in {to.hub_model_id}"
        return f"{kept}; not yet: {', '.join(waiting)}; {seen}; the run in {run} is whole"


def upload(files: Mapping[str, Path | bytes], run: Path, to: Destination) -> str:
    """Upload files in one commit: large ones first, one after the other, which the Hub keeps; then all show at once.

    Large files that the Hub has from an earlier try are not sent again.

    Args:
        files: name in the repository → file or content.
        run: the run folder, for the command that goes on.
        to: where they go.

    Returns:
        The address of the commit or of the pull request.

    Raises:
        UserError: the Hub refused, or could not be reached.
        Stopped: SIGINT or SIGTERM came.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=to.hub_token)
    # The model before the images of its card, and small files before large ones.
    large = sorted((n for n, c in files.items() if _is_large(c)), key=lambda n: ("/" in n, _size(files[n])))
    sent = _Sent(large, [name for name in files if name not in large])
    command = to.command(run)
    try:
        with _signals_raise():
            adds = {name: CommitOperationAdd(name, content) for name, content in files.items()}
            head = patiently(lambda: api.model_info(to.hub_model_id, revision=to.hub_revision))
            for group in ([name] for name in large):
                _preupload(api, to, [adds[name] for name in group])
                sent.done += group
            _preupload(api, to, [adds[name] for name in sent.small])
            stale = [s.rfilename for s in head.siblings or [] if _is_stale(s.rfilename, files)]
            sent.committing = True
            commit = patiently(
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
        raise Stopped(int(number), sent.state(run, to), command) from None
    except client_errors() as error:
        raise explain(error, to, state="; " + sent.state(run, to), command=command) from error
    for name in stale:
        say(f"Removed from {to.hub_model_id}, for it belongs to other weights: {name}")
    address = commit.pr_url if to.create_pr else commit.commit_url
    say(f"Pushed {len(files)} files to {_place(to)}: {address}")
    return str(address)


def _preupload(api: Any, to: Destination, additions: list[Any]) -> None:
    api.preupload_lfs_files(
        to.hub_model_id, additions, revision=to.hub_revision, create_pr=to.create_pr, free_memory=False
    )


def _is_large(content: Path | bytes) -> bool:
    """Whether the Hub keeps a file through LFS, apart from the commit: what is no text, or a very long one."""
    if isinstance(content, bytes):
        return len(content) > LARGE
    with content.open("rb") as file:
        return b"\0" in file.read(4096) or _size(content) > LARGE


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _is_stale(name: str, files: Mapping[str, Any]) -> bool:
    import fnmatch

    return "/" not in name and name not in files and any(fnmatch.fnmatch(name, pattern) for pattern in WEIGHTS)


def _place(to: Destination) -> str:
    branch = f", branch {to.hub_revision}" if to.hub_revision else ""
    return f"{to.hub_model_id}{branch}{', as a pull request' if to.create_pr else ''}"


def _warn_of_local_base(run: Path, to: Destination) -> None:
    """Whoever loads an adapter needs its base, which a local folder is to nobody else."""
    import json

    path = run / "model" / "adapter_config.json"
    if to.merged or not path.is_file():
        return
    base = Path(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])
    if base.exists():
        say(
            f"The adapter's base is the local folder {base.name}, which nobody else has; --merged pushes a whole model."
        )


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, and both say which of them it was."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
