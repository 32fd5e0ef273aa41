"""What the Hub answers: asked again while it is busy, and said in the words of a user's mistake."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from hf_finetune.console import say
from hf_finetune.errors import UserError, first_line
from hf_finetune.publish.hub.destination import Destination

T = TypeVar("T")
BUSY = (408, 429, 500, 502, 503, 504)
WAITS = (1.0, 2.0, 4.0)  # seconds before the second, third and fourth try
LONGEST = 60.0  # who is told to wait for longer is told so


def patiently(call: Callable[[], T]) -> T:
    """Call, and call again where the Hub is busy: four times at most, with longer waits, or as ``Retry-After`` asks.

    The stock client does this for uploads alone (six times), and not for the questions before or the commit.
    """
    from huggingface_hub.errors import HfHubHTTPError

    for wait in WAITS:
        try:
            return call()
        except HfHubHTTPError as error:
            status = error.response.status_code
            seconds = max(wait, asked_to_wait(error))
            if status not in BUSY or seconds > LONGEST:
                raise
            say(f"The Hub answered {status}; trying again in {seconds:g} s.")
            time.sleep(seconds)
    return call()


def asked_to_wait(error: BaseException) -> float:
    """Seconds that the answer asks to wait: ``Retry-After``, or the ``t`` of ``RateLimit``; else 0."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or {}
    limit = re.search(r"\bt=(\d+)", headers.get("ratelimit", ""))
    asked = headers.get("retry-after", "") if headers.get("retry-after", "").isdigit() else limit[1] if limit else "0"
    return float(asked)


def client_errors() -> tuple[type[Exception], ...]:
    """What the stock client raises: answers and lost connections, files that it cannot read, malformed answers."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    # It wraps the errors of uploads in RuntimeError, and answers that it cannot read in ValueError or KeyError.
    return (HfHubHTTPError, HTTPError, OSError, RuntimeError, ValueError, KeyError)


def explain(error: Exception, to: Destination, *, state: str = "", command: str = "") -> UserError:
    """What went wrong, as a mistake that the user can mend.

    Args:
        error: what the client raised.
        to: where the run was to go.
        state: what was uploaded, and what was not; empty before training.
        command: finishes the push; empty before training.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    where = f"--hub_model_id {to.hub_model_id}"
    then = f", then run: {command}" if command else "."
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        return UserError(
            f"there is no valid token{state}", where=where, fix=f"run 'hf auth login', or set HF_TOKEN{then}"
        )
    if status == 403:
        return UserError(
            f"the token may not write there ({first_line(error)}){state}",
            where=where,
            fix=f"make a token that may write in {to.namespace}, or name another --hub_model_id{then}",
        )
    if status == 404:
        return UserError(
            f"there is no such namespace, repository or branch, or the token may not see it{state}",
            where=where,
            fix=f"check --hub_model_id and --hub_revision{then}",
        )
    if status in (409, 412):
        return UserError(
            f"the repository changed meanwhile{state}", where=where, fix=f"see what else writes there{then}"
        )
    if status == 429:
        seconds = asked_to_wait(error)
        pause = f"{seconds:g} s" if seconds else "some minutes"
        return UserError(f"the Hub asks to slow down{state}", where=where, fix=f"wait {pause}{then}")
    if status in BUSY:
        return UserError(
            f"the Hub has a fault of its own (status {status}){state}", where=where, fix=f"wait some minutes{then}"
        )
    if isinstance(error, OfflineModeIsEnabled):
        return UserError(f"HF_HUB_OFFLINE keeps the Hub away{state}", where=where, fix=f"set HF_HUB_OFFLINE=0{then}")
    if status is None and isinstance(error, HTTPError | ConnectionError):
        return UserError(
            f"the connection to {constants.ENDPOINT} was lost ({first_line(error)}){state}",
            where=where,
            fix=f"check the network, and set HF_HUB_DISABLE_XET=1 where only plain LFS is served{then}",
        )
    return UserError(
        f"the Hub did not take it ({first_line(error)}){state}", where=where, fix=f"mend what the message names{then}"
    )
