"""Where a run is pushed: the values of the flags, and the command that pushes it there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path

from hf_finetune.config import Config
from hf_finetune.errors import UserError


@dataclass(frozen=True)
class Destination:
    """A repository, and how to push to it: the flags of ``hf-finetune push``.

    Raises:
        UserError: flags contradict each other, or a name is invalid; the Hub is not contacted.
    """

    hub_model_id: str  # "NAMESPACE/NAME", or "NAME" until the token's user is known
    hub_private_repo: bool | None = None
    hub_revision: str | None = None
    create_pr: bool = False
    merged: bool = False
    commit_message: str = "Fine-tuned with hf-finetune"
    hub_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        try:
            validate_repo_id(self.hub_model_id)
        except HFValidationError as error:
            raise UserError(
                "a name on the Hub has at most 96 letters, digits, '-', '_' and '.'; it does not start or end with "
                "'-' or '.', contain '--' or '..', or end in '.git'",
                where=f"--hub_model_id {self.hub_model_id}",
                fix="give such a NAME or NAMESPACE/NAME with --hub_model_id.",
            ) from error
        if self.create_pr and self.hub_revision:
            what = "a pull request goes to the main branch, and --hub_revision names another branch"
            raise UserError(what, where="--create_pr", fix="remove one of the two flags.")
        if not self.commit_message.strip():
            raise UserError("the message is empty", where="--commit_message", fix="give one, or remove the flag.")

    @property
    def namespace(self) -> str:
        """The user or the organisation that the repository belongs to."""
        return self.hub_model_id.partition("/")[0]

    def command(self, run: Path) -> str:
        """Return the command that pushes a run folder here, without the token."""
        words = ["hf-finetune", "push", str(run)]
        for option in fields(self):
            value = getattr(self, option.name)
            if value != option.default and option.name != "hub_token":
                word = str(value).lower() if isinstance(value, bool) else value
                words += [f"--{option.name}"] if option.default is False else [f"--{option.name}", word]
        return shlex.join(words)


def configured_destination(config: Config) -> Destination:
    """Return where ``--push_to_hub`` pushes; the repository is named after the run folder by default."""
    asked = config.training
    return Destination(
        hub_model_id=asked.get("hub_model_id") or config.output_dir.resolve().name,
        hub_private_repo=asked.get("hub_private_repo"),
        hub_revision=asked.get("hub_revision"),
        create_pr=config.run.create_pr,
        hub_token=asked.get("hub_token"),
    )
