"""Responses of the Hub: requests are repeated while it is busy, and errors become a ``UserError``."""

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
RETRY_SECONDS = (1.0, 2.0, 4.0)  # seconds before the second, third and fourth try
LONGEST_WAIT = 60.0  # seconds; if the Hub asks for more, the push ends with an error


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
