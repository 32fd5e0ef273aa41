"""Where a run is pushed to, in the words of the flags, and the command that pushes it there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from hf_finetune.config import Config
from hf_finetune.errors import UserError

MESSAGE = "Fine-tuned with hf-finetune"


@dataclass(frozen=True)
class Destination:
    """A repository and how the run comes into it.

    Args:
        hub_model_id: ``NAMESPACE/NAME``; a bare ``NAME`` until the token has said whose it is.
        hub_private_repo: whether the repository is private; None leaves it to the Hub.
        hub_revision: the branch; None is ``main``.
        create_pr: propose the commit as a pull request instead of writing the branch.
        merged: push the adapter folded into its base.
        commit_message: first line of the commit.
        hub_token: a token of the Hub; None takes ``HF_TOKEN``, or the token of ``hf auth login``.
    """

    hub_model_id: str
    hub_private_repo: bool | None = None
    hub_revision: str | None = None
    create_pr: bool = False
    merged: bool = False
    commit_message: str = MESSAGE
    hub_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what excludes each other, and names that the Hub does not take; nothing is asked of it.

        Raises:
            UserError: such a name or such flags.
        """
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        where = f"--hub_model_id {self.hub_model_id}"
        try:
            validate_repo_id(self.hub_model_id)
        except HFValidationError as error:
            raise UserError(
                "the Hub takes names of at most 96 letters, digits, '-', '_' and '.', which neither begin nor end with "
                "'-' or '.', nor hold '--' or '..', nor end in '.git'",
                where=where,
                fix="give NAME or NAMESPACE/NAME of such letters with --hub_model_id.",
            ) from error
        if self.create_pr and self.hub_revision:
            raise UserError(
                "a pull request proposes a change of the main branch, and --hub_revision names another",
                where="--create_pr",
                fix="leave one of them out.",
            )
        if not self.commit_message.strip():
            raise UserError("the commit has no message", where="--commit_message", fix="give one, or leave it out.")

    @property
    def namespace(self) -> str:
        """The user or the organisation that the repository belongs to."""
        return self.hub_model_id.partition("/")[0]

    def command(self, run: Path) -> str:
        """The command that pushes a run folder here; the token is no part of it."""
        words = ["hf-finetune", "push", str(run), "--hub_model_id", self.hub_model_id]
        if self.hub_private_repo is not None:
            words += ["--hub_private_repo", str(self.hub_private_repo).lower()]
        if self.hub_revision:
            words += ["--hub_revision", self.hub_revision]
        words += ["--create_pr"] if self.create_pr else []
        words += ["--merged"] if self.merged else []
        words += ["--commit_message", self.commit_message] if self.commit_message != MESSAGE else []
        return shlex.join(words)


def destination_of(config: Config) -> Destination:
    """Where ``--push_to_hub`` pushes to; without ``--hub_model_id`` the repository is called as the run folder is."""
    asked = config.training
    return Destination(
        hub_model_id=asked.get("hub_model_id") or config.output_dir.resolve().name,
        hub_private_repo=asked.get("hub_private_repo"),
        hub_revision=asked.get("hub_revision"),
        create_pr=config.run.create_pr,
        hub_token=asked.get("hub_token"),
    )
