"""Exit status: 0 success, 2 a mistake that the user can fix, 128 + signal interrupted; anything else is a bug."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from hf_finetune.config import without_secrets
from hf_finetune.config.flags import with_underscores
from hf_finetune.config.parser import HelpFormatter
from hf_finetune.console import is_main_process
from hf_finetune.errors import Interrupted, UserError


def run_as_script(main: Callable[[], Any]) -> int:
    """Run ``main``, and return the exit status.

    A ``UserError`` becomes one ``error:`` and one ``fix:`` line on standard error, without a traceback.
    """
    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # what they log they raise as well
    try:
        main()
    except KeyboardInterrupt:
        return 130
    except (UserError, Interrupted) as error:
        said = str(error)
        if isinstance(error, Interrupted):
            resume = f"a checkpoint was written. To resume, run (with the same launcher):\n  {_resume_command()}"
            said += f"; {error.resume or resume}"
        if is_main_process():
            print(said, file=sys.stderr)
        return 2 if isinstance(error, UserError) else 128 + error.number
    return 0


def _resume_command() -> str:
    """Return the command that resumes this process from the last checkpoint, without secrets."""
    words: list[str] = []
    dropping = False  # the values of a flag that is left out
    for word in without_secrets(sys.argv):
        if word.startswith("--"):
            name = word.lstrip("-").replace("-", "_").partition("=")[0]
            dropping = name in ("overwrite_output_dir", "resume_from_checkpoint")
        words += [] if dropping else [word]
    if words[0].endswith("__main__.py"):
        words = ["python", "-m", "hf_finetune", *words[1:]]
    resume = [] if "demo" in words[1:2] else ["--resume_from_checkpoint", "auto"]  # the demo starts again
    return shlex.join([*words, *resume])


class VerbParser(argparse.ArgumentParser):
    """An ``argparse`` parser that raises ``UserError``. Flags of runs come from :mod:`hf_finetune.config` by name."""

    def __init__(self, program: str, description: str | None = None, **options: Any) -> None:
        options |= {"allow_abbrev": False, "formatter_class": HelpFormatter}
        super().__init__(prog=program, description=description, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does; ``--top-k`` is ``--top_k``."""
        return super().parse_known_args(with_underscores(sys.argv[1:] if args is None else args), namespace)

    def error(self, message: str) -> NoReturn:
        """Raise a ``UserError``; argparse calls this for every mistake on the command line."""
        raise UserError(message, where="the command line", fix=f"{self.prog} --help shows the usage.")
