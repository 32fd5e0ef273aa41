"""May this run be pushed? Asked before an hour of training, and again before every push."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from hf_finetune.errors import UserError
from hf_finetune.publish.hub.answers import client_errors, explain, patiently
from hf_finetune.publish.hub.destination import Destination


def open_repository(to: Destination, card: str) -> Destination:
    """Check the token, its rights, the repository, the branch and the card; make the repository and the branch.

    Args:
        to: where the run goes.
        card: text of the model card, as far as it is known.

    Returns:
        The same with the full name of the repository.

    Raises:
        UserError: no token, or one that may not write there; a repository that is public and should be private, or the
            other way round; a branch that cannot be made; a card whose metadata the Hub does not take.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=to.hub_token)
    try:
        account = patiently(api.whoami)
        if "/" not in to.hub_model_id:
            to = dataclasses.replace(to, hub_model_id=f"{account['name']}/{to.hub_model_id}")
        _refuse_account(account, to)
        check_card(card, to)
        _open(api, to)
        if to.hub_revision:
            _open_branch(api, to)
        # Asking how a small file would be stored uploads nothing, and is answered only to those who may write.
        probe = CommitOperationAdd("README.md", card.encode())
        api.preupload_lfs_files(
            to.hub_model_id, [probe], revision=to.hub_revision, create_pr=to.create_pr, free_memory=False
        )
    except client_errors() as error:
        raise explain(error, to) from error
    return to


def check_card(card: str, to: Destination) -> None:
    """Have the Hub judge the metadata of a card.

    Raises:
        UserError: it does not take them: an unknown licence, a language that is no code, a malformed header.
    """
    import yaml
    from huggingface_hub import ModelCard

    try:
        patiently(ModelCard(card).validate)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"the Hub does not take the card's metadata: {'; '.join(_complaints(str(error)))}",
            where="README.md",
            fix="mend what the message names, in the flags that it comes from or in the card.",
        ) from error


def _complaints(answer: str) -> list[str]:
    """The messages of the Hub's answer, which is JSON; or what was said instead."""
    try:
        content = json.loads(answer)
    except ValueError:
        return [answer.strip().split("\n")[0][:200]]
    return [str(item["message"]) for item in content.get("errors", [])] or [str(content.get("error", answer))[:200]]


def _refuse_account(account: dict[str, Any], to: Destination) -> None:
    """Refuse a token that cannot write there, by what ``whoami`` says of it. Whatever it does not say the Hub judges later.

    Raises:
        UserError: the token may only read, the user is no member of the organisation or may only read there, or the
            token's permissions leave the repository out.
    """
    where = f"--hub_model_id {to.hub_model_id}"
    token = account.get("auth", {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise UserError(
            f"the token {token.get('displayName', '')!r} may not write there; it may only read",
            where=where,
            fix="make one with write access at https://huggingface.co/settings/tokens, and set HF_TOKEN.",
        )
    if to.create_pr:
        return  # anybody may propose a change
    roles = {org["name"].lower(): org.get("roleInOrg") for org in account.get("orgs", [])}
    own = to.namespace.lower() == account["name"].lower()
    if not own and (to.namespace.lower() not in roles or roles[to.namespace.lower()] == "read"):
        reason = "may only read there" if to.namespace.lower() in roles else "is no member of it"
        raise UserError(
            f"the token may not write there; {account['name']} {reason}",
            where=where,
            fix=f"name a repository of {account['name']} or of an organisation that you write in, or add --create_pr.",
        )
    if token.get("role") == "fineGrained" and not _covers(token.get("fineGrained") or {}, to):
        raise UserError(
            f"the token {token.get('displayName', '')!r} may not write there; its permissions leave {to.namespace} out",
            where=where,
            fix="give it write access to the contents of repositories at https://huggingface.co/settings/tokens.",
        )


def _covers(permissions: dict[str, Any], to: Destination) -> bool:
    """Whether a fine-grained token writes the contents of the repository: by a permission for it or for its owner."""
    for scope in permissions.get("scoped", []):
        named = str(scope.get("entity", {}).get("name", "")).lower()
        covered = named in (to.namespace.lower(), to.hub_model_id.lower())
        if covered and any(re.fullmatch(r"repo(\.content)?\.write", right) for right in scope.get("permissions", [])):
            return True
    return False


def _open(api: Any, to: Destination) -> None:
    """Make the repository, or see that the one that is there is as private as was asked.

    Raises:
        UserError: it is not; or a change is proposed to a repository that there is not.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    where = f"--hub_model_id {to.hub_model_id}"
    try:
        found = patiently(lambda: api.model_info(to.hub_model_id))
    except RepositoryNotFoundError as error:
        if to.create_pr:
            raise UserError(
                "there is no such repository to propose a change to, or the token may not see it",
                where=where,
                fix="check the name, or leave --create_pr out.",
            ) from error
        patiently(lambda: api.create_repo(to.hub_model_id, private=to.hub_private_repo, exist_ok=True))
        return
    if to.hub_private_repo is not None and found.private is not None and found.private != to.hub_private_repo:
        is_now, asked = ("private", "public") if found.private else ("public", "private")
        raise UserError(
            f"the repository is {is_now}, and --hub_private_repo asks for a {asked} one",
            where=where,
            fix=f"run 'hf repos settings {to.hub_model_id} --{asked}', name another, or leave --hub_private_repo out.",
        )


def _open_branch(api: Any, to: Destination) -> None:
    """Make the branch where there is none.

    Raises:
        UserError: the name is that of a commit, or none that a branch may have.
    """
    from huggingface_hub.errors import BadRequestError, RevisionNotFoundError

    where = f"--hub_revision {to.hub_revision}"
    if re.fullmatch(r"[0-9a-f]{40}", str(to.hub_revision)):
        raise UserError("this is a commit, and only a branch can be pushed to", where=where, fix="name a branch.")
    try:
        patiently(lambda: api.model_info(to.hub_model_id, revision=to.hub_revision))
    except RevisionNotFoundError:
        try:
            patiently(lambda: api.create_branch(to.hub_model_id, branch=to.hub_revision, exist_ok=True))
        except BadRequestError as error:
            raise UserError(
                "the Hub does not take this name for a branch", where=where, fix="name another branch."
            ) from error
