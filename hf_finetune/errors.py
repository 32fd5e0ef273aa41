"""The exceptions that speak to users: what is wrong, where, and how to mend it; or that they stopped the work."""

from __future__ import annotations

import re
import signal


class UserError(Exception):
    """A mistake that the user can mend. The command line prints it as two lines and exits with status 2.

    Args:
        what: what is wrong, in one sentence, with what was found and what was expected.
        where: the file, row, column or flag that it was found in; empty where `what` already says it.
        fix: what to do about it, in one sentence.
    """

    def __init__(self, what: str, *, where: str = "", fix: str) -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"error: {_one_line(where + self.what)}\nfix: {_one_line(self.fix)}"


class Stopped(Exception):
    """A signal stopped the work, and what was done is kept. The exit status is 128 plus the signal.

    Args:
        number: the signal.
        kept: what was done and what was not, in a sentence without a full stop.
        command: what goes on from there.
    """

    def __init__(self, number: int, kept: str, command: str) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}; {kept}. Go on with:\n  {command}")
        self.number = number


def first_line(error: Exception) -> str:
    """What another library's exception says, short enough for one line of ours."""
    return str(error).strip().split("\n")[0][:200]


def _one_line(text: str) -> str:
    """Without line breaks, and without tokens of the Hub, wherever in a command line they came to stand."""
    return re.sub(r"\bhf_[A-Za-z0-9]{20,}", "hf_***", " ".join(text.split()))
