"""Checks that a run may be pushed: before the training, and again before every push."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from hf_finetune.errors import UserError
from hf_finetune.publish.hub.destination import Destination
from hf_finetune.publish.hub.responses import client_errors, to_user_error, with_retries


def prepare_repository(to: Destination, card: str) -> Destination:
    """Check the token, its permissions, the repository, the branch and the card; create the repository and the branch.

    Args:
        to: where to push.
        card: the text of the model card, possibly without figures.

    Returns:
        ``to`` with the full name of the repository.

    Raises:
        UserError: there is no token, or it has no write access; the repository is public and should be private, or
            private and should be public; the branch cannot be created; the Hub rejects the card's metadata.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=to.hub_token)
    try:
        account = with_retries(api.whoami)
        if "/" not in to.hub_model_id:
            to = dataclasses.replace(to, hub_model_id=f"{account['name']}/{to.hub_model_id}")
        _refuse_account(account, to)
        check_card(card, to)
        _ensure_repository(api, to)
        if to.hub_revision:
            _ensure_branch(api, to)
        # Asking how a small file would be stored uploads nothing, but needs write access.
        probe = CommitOperationAdd("README.md", card.encode())
        api.preupload_lfs_files(
            to.hub_model_id, [probe], revision=to.hub_revision, create_pr=to.create_pr, free_memory=False
        )
    except client_errors() as error:
        raise to_user_error(error, to) from error
    return to


def check_card(card: str, to: Destination) -> None:
    """Let the Hub validate the metadata of a card.

    Raises:
        UserError: they are invalid: an unknown licence or language code, a malformed header.
    """
    import yaml
    from huggingface_hub import ModelCard

    try:
        with_retries(ModelCard(card).validate)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"the Hub rejects the card's metadata: {'; '.join(_error_messages(str(error)))}",
            where="README.md",
            fix="correct what the message names, in the flag that sets it or in the card.",
        ) from error


def _error_messages(answer: str) -> list[str]:
    """Return the messages in the Hub's JSON response; its first line if it is not JSON."""
    try:
        content = json.loads(answer)
    except ValueError:
        return [answer.strip().split("\n")[0][:200]]
    return [str(item["message"]) for item in content.get("errors", [])] or [str(content.get("error", answer))[:200]]


def _refuse_account(account: dict[str, Any], to: Destination) -> None:
    """Refuse a token without write access, as far as ``whoami`` shows it.

    Raises:
        UserError: the token has read access only, the user cannot write in the organisation, or the permissions of a
            fine-grained token do not include the repository.
    """
    where = f"--hub_model_id {to.hub_model_id}"
    token = account.get("auth", {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise UserError(
            f"the token {token.get('displayName', '')!r} has read access only",
            where=where,
            fix="create one with write access at https://huggingface.co/settings/tokens, and set HF_TOKEN.",
        )
    if to.create_pr:
        return  # a pull request needs no write access
    roles = {org["name"].lower(): org.get("roleInOrg") for org in account.get("orgs", [])}
    own = to.namespace.lower() == account["name"].lower()
    if not own and (to.namespace.lower() not in roles or roles[to.namespace.lower()] == "read"):
        reason = "has read access only" if to.namespace.lower() in roles else "is not a member"
        raise UserError(
            f"the token has no write access to {to.namespace}: {account['name']} {reason}",
            where=where,
            fix=f"choose a repository of {account['name']} or of an organisation with write access, or add --create_pr.",
        )
    if token.get("role") == "fineGrained" and not _covers(token.get("fineGrained") or {}, to):
        raise UserError(
            f"the permissions of the token {token.get('displayName', '')!r} do not include write access to {to.namespace}",
            where=where,
            fix="give it write access to the contents of repositories at https://huggingface.co/settings/tokens.",
        )


def _covers(permissions: dict[str, Any], to: Destination) -> bool:
    """Return whether a fine-grained token may write the repository, by a permission for it or for its owner."""
    for scope in permissions.get("scoped", []):
        named = str(scope.get("entity", {}).get("name", "")).lower()
        covered = named in (to.namespace.lower(), to.hub_model_id.lower())
        if covered and any(re.fullmatch(r"repo(\.content)?\.write", right) for right in scope.get("permissions", [])):
            return True
    return False


def _ensure_repository(api: Any, to: Destination) -> None:
    """Create the repository, or check that the existing one is private or public as asked.

    Raises:
        UserError: it is not, or ``create_pr`` is set and there is no repository.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    where = f"--hub_model_id {to.hub_model_id}"
    try:
        found = with_retries(lambda: api.model_info(to.hub_model_id))
    except RepositoryNotFoundError as error:
        if to.create_pr:
            raise UserError(
                "a pull request needs an existing repository, and the token finds none of this name",
                where=where,
                fix="check the name, or remove --create_pr.",
            ) from error
        with_retries(lambda: api.create_repo(to.hub_model_id, private=to.hub_private_repo, exist_ok=True))
        return
    if to.hub_private_repo is not None and found.private is not None and found.private != to.hub_private_repo:
        is_now, asked = ("private", "public") if found.private else ("public", "private")
        raise UserError(
            f"the repository is {is_now}, and --hub_private_repo asks for a {asked} one",
            where=where,
            fix=f"run 'hf repos settings {to.hub_model_id} --{asked}', choose another, or remove --hub_private_repo.",
        )


def _ensure_branch(api: Any, to: Destination) -> None:
    """Create the branch if it does not exist.

    Raises:
        UserError: the name is a commit, or not allowed for a branch.
    """
    from huggingface_hub.errors import BadRequestError, RevisionNotFoundError

    where = f"--hub_revision {to.hub_revision}"
    if re.fullmatch(r"[0-9a-f]{40}", str(to.hub_revision)):
        raise UserError("this is a commit; only a branch can be pushed to", where=where, fix="give a branch.")
    try:
        with_retries(lambda: api.model_info(to.hub_model_id, revision=to.hub_revision))
    except RevisionNotFoundError:
        try:
            with_retries(lambda: api.create_branch(to.hub_model_id, branch=to.hub_revision, exist_ok=True))
        except BadRequestError as error:
            raise UserError(
                "the Hub does not allow this name for a branch", where=where, fix="give another name."
            ) from error
