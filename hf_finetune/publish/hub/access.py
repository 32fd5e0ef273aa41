"""Requests to the Hub: the checks before training and before a push; tries while it is busy; errors as a ``UserError``."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from hf_finetune.console import say
from hf_finetune.errors import UserError, first_line
from hf_finetune.publish.hub.destination import Destination

T = TypeVar("T")
BUSY = (408, 429, 500, 502, 503, 504)
RETRY_SECONDS = (1.0, 2.0, 4.0)  # seconds before the second, third and fourth try
LONGEST_WAIT = 60.0  # seconds; if the Hub asks for more, the push ends with an error


def prepare_repository(to: Destination, card: str) -> Destination:
    """Check the token, its permissions, the repository, the branch and the card; create the repository and the branch.

    Return ``to`` with the full name of the repository.

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
        _check_card(card)
        _ensure_repository(api, to)
        _ensure_branch(api, to)
        # Asking how a small file would be stored uploads nothing, but needs write access.
        preupload(api, to, CommitOperationAdd("README.md", card.encode()))
    except client_errors() as error:
        raise to_user_error(error, to) from error
    return to


def preupload(api: Any, to: Destination, addition: Any) -> None:
    """Upload a file if it is stored as LFS; the commit then only refers to it."""
    api.preupload_lfs_files(
        to.hub_model_id, [addition], revision=to.hub_revision, create_pr=to.create_pr, free_memory=False
    )


def _check_card(card: str) -> None:
    """Refuse metadata that the Hub rejects: an unknown licence or language code, a malformed header."""
    import yaml
    from huggingface_hub import ModelCard

    try:
        with_retries(ModelCard(card).validate)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"the Hub rejects the card's metadata: {'; '.join(_error_messages(error))}",
            where="README.md",
            fix="correct what the message names, in the flag that sets it or in the card.",
        ) from error


def _error_messages(error: Exception) -> list[str]:
    """Return the messages in the Hub's JSON response; its first line if it is not JSON."""
    try:
        content = json.loads(str(error))
    except ValueError:
        return [first_line(error)]
    return [str(item["message"]) for item in content.get("errors", [])] or [str(content.get("error", error))[:200]]


def _refuse_account(account: dict[str, Any], to: Destination) -> None:
    """Refuse a token without write access, as far as ``whoami`` shows it."""
    token, user = account.get("auth", {}).get("accessToken") or {}, account["name"]
    name, page = repr(token.get("displayName", "")), "https://huggingface.co/settings/tokens"
    roles = {org["name"].lower(): org.get("roleInOrg") or "" for org in account.get("orgs", [])}
    role = (roles | {user.lower(): "admin"}).get(to.namespace.lower())
    if token.get("role") == "read":
        what = f"the token {name} has read access only"
        fix = f"create one with write access at {page}, and set HF_TOKEN."
    elif to.create_pr:
        return  # a pull request needs no write access
    elif role is None or role == "read":
        reason = "is not a member" if role is None else "has read access only"
        what = f"the token has no write access to {to.namespace}: {user} {reason}"
        fix = f"choose a repository of {user} or of an organisation with write access, or add --create_pr."
    elif token.get("role") == "fineGrained" and not _covers(token.get("fineGrained") or {}, to):
        what = f"the permissions of the token {name} do not include write access to {to.namespace}"
        fix = f"give it write access to the contents of repositories at {page}."
    else:
        return
    raise UserError(what, where=f"--hub_model_id {to.hub_model_id}", fix=fix)


def _covers(permissions: dict[str, Any], to: Destination) -> bool:
    """Return whether a fine-grained token may write the repository, by a permission for it or for its owner."""
    covering = (to.namespace.lower(), to.hub_model_id.lower())
    return any(
        re.fullmatch(r"repo(\.content)?\.write", right)
        for scope in permissions.get("scoped", [])
        if str(scope.get("entity", {}).get("name", "")).lower() in covering
        for right in scope.get("permissions", [])
    )


def _ensure_repository(api: Any, to: Destination) -> None:
    """Create the repository, or refuse an existing one that is not private or public as asked."""
    from huggingface_hub.errors import RepositoryNotFoundError

    where = f"--hub_model_id {to.hub_model_id}"
    try:
        found = with_retries(lambda: api.model_info(to.hub_model_id))
    except RepositoryNotFoundError as error:
        if to.create_pr:
            what = "a pull request needs an existing repository, and the token finds none of this name"
            raise UserError(what, where=where, fix="check the name, or remove --create_pr.") from error
        with_retries(lambda: api.create_repo(to.hub_model_id, private=to.hub_private_repo, exist_ok=True))
        return
    if None not in (to.hub_private_repo, found.private) and found.private != to.hub_private_repo:
        is_now, asked = ("private", "public") if found.private else ("public", "private")
        what = f"the repository is {is_now}, and --hub_private_repo asks for a {asked} one"
        fix = f"run 'hf repos settings {to.hub_model_id} --{asked}', choose another, or remove --hub_private_repo."
        raise UserError(what, where=where, fix=fix)


def _ensure_branch(api: Any, to: Destination) -> None:
    """Create the branch if it does not exist; refuse a commit, and a name that is not allowed."""
    from huggingface_hub.errors import BadRequestError

    branch, where = to.hub_revision, f"--hub_revision {to.hub_revision}"
    if not branch:
        return
    if re.fullmatch(r"[0-9a-f]{40}", branch):
        raise UserError("this is a commit; only a branch can be pushed to", where=where, fix="give a branch.")
    try:
        with_retries(lambda: api.create_branch(to.hub_model_id, branch=branch, exist_ok=True))
    except BadRequestError as error:
        what = "the Hub does not allow this name for a branch"
        raise UserError(what, where=where, fix="give another name.") from error


def with_retries(call: Callable[[], T]) -> T:
    """Call a function up to four times while the Hub is busy, with growing waits or as ``Retry-After`` asks.

    ``huggingface_hub`` repeats uploads only (six times), neither other requests nor the commit.
    """
    from huggingface_hub.errors import HfHubHTTPError

    for wait in RETRY_SECONDS:
        try:
            return call()
        except HfHubHTTPError as error:
            status = error.response.status_code
            seconds = max(wait, seconds_to_wait(error))
            if status not in BUSY or seconds > LONGEST_WAIT:
                raise
            say(f"The Hub answered {status}; trying again in {seconds:g} s.")
            time.sleep(seconds)
    return call()


def seconds_to_wait(error: BaseException) -> float:
    """Return the seconds to wait, by the headers ``Retry-After`` or ``RateLimit`` of a response; 0 without them."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    limit = re.search(r"\bt=(\d+)", headers.get("ratelimit", ""))
    asked = headers.get("retry-after", "")
    return float(asked if asked.isdigit() else limit[1] if limit else 0)


def client_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that ``huggingface_hub`` raises for responses, lost connections and unreadable files."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    # Errors of uploads are wrapped in RuntimeError; malformed responses raise ValueError or KeyError.
    return (HfHubHTTPError, HTTPError, OSError, RuntimeError, ValueError, KeyError)


def to_user_error(error: Exception, to: Destination, *, state: str = "", command: str = "") -> UserError:
    """Return an exception of ``huggingface_hub`` as a mistake that the user can fix.

    During a push, ``state`` says what was uploaded, and ``command`` finishes the push.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, LocalTokenNotFoundError):
        status = 401
    said, seconds = first_line(error), seconds_to_wait(error)
    wait = f"wait {seconds:g} s" if seconds else "wait a few minutes"
    changed = "the repository was changed during the push", "find out what else writes to it"
    meanings = {
        **{busy: (f"the Hub is not available (status {busy})", wait) for busy in BUSY},
        401: ("there is no valid token", "run 'hf auth login', or set HF_TOKEN"),
        403: (
            f"the token has no write access ({said})",
            f"create a token with write access to {to.namespace}, or choose another --hub_model_id",
        ),
        404: (
            "there is no such namespace, repository or branch, or the token has no access to it",
            "check --hub_model_id and --hub_revision",
        ),
        409: changed,
        412: changed,
        429: ("the Hub's rate limit is reached", wait),
    }
    if status in meanings:
        what, fix = meanings[status]
    elif isinstance(error, OfflineModeIsEnabled):
        what, fix = "HF_HUB_OFFLINE is set", "set HF_HUB_OFFLINE=0"
    elif status is None and isinstance(error, HTTPError | ConnectionError):
        what = f"the connection to {constants.ENDPOINT} was lost ({said})"
        fix = "check the network; if the endpoint supports only Git LFS, set HF_HUB_DISABLE_XET=1"
    else:
        what, fix = f"the Hub refused the push ({said})", "fix what the message names"
    then = f", then run: {command}" if command else "."
    return UserError(what + state, where=f"--hub_model_id {to.hub_model_id}", fix=fix + then)
