"""The exceptions that the command line prints for users: a mistake with its fix, and a run that a signal stopped."""

from __future__ import annotations

import difflib
import re
import signal
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can fix. The command line prints it as two lines and exits with status 2.

    Args:
        what: what is wrong, in one sentence: what was found, and what was expected.
        where: the file, row, column or flag; empty where ``what`` already names it.
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


class Interrupted(Exception):
    """A signal stopped the work, which can be resumed. The exit status is 128 plus the signal's number.

    ``resume`` says what was done and how to go on; without it, a checkpoint of the run was written.
    """

    def __init__(self, number: int, resume: str = "") -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number
        self.resume = resume


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, at most 200 characters of it."""
    return str(error).strip().split("\n")[0][:200]


def did_you_mean(given: str, known: Iterable[str], flag: str = "") -> str:
    """Return a question that names the nearest known spelling, with a space behind it; empty if none is near."""
    near = difflib.get_close_matches(given, list(known), n=1)
    return f"did you mean {f'{flag} {near[0]}'.strip()}? " if near else ""


def _one_line(text: str) -> str:
    """Join the lines of a text, and mask Hub tokens in it."""
    return re.sub(r"\bhf_[A-Za-z0-9]{20,}", "hf_***", " ".join(text.split()))
