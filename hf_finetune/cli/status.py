"""Exit status: 0 success, 2 a mistake that the user can fix, 128 + signal interrupted; anything else is a bug."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from hf_finetune.config.flags import with_underscores
from hf_finetune.config.parser import HelpFormatter
from hf_finetune.console import is_main_process
from hf_finetune.errors import Interrupted, Stopped, UserError


def run_as_script(main: Callable[[], Any]) -> int:
    """Run ``main``, and return the exit status.

    A ``UserError`` becomes one ``error:`` and one ``fix:`` line on standard error, without a traceback.
    """
    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # what they log they raise as well
    try:
        main()
    except UserError as error:
        if is_main_process():
            print(error, file=sys.stderr)
        return 2
    except Stopped as stop:
        if is_main_process():
            print(stop, file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        return 130
    except Interrupted as error:
        if is_main_process():
            print(
                f"{error}; a checkpoint was written. To resume, run (with the same launcher):\n  {_resume_command()}",
                file=sys.stderr,
            )
        return 128 + error.number
    return 0


def _resume_command() -> str:
    """Return the command that resumes this process from the last checkpoint, without secrets."""
    import shlex

    from hf_finetune.config import without_secrets

    words = _drop(_drop(without_secrets(sys.argv), "overwrite_output_dir"), "resume_from_checkpoint")
    if words[0].endswith("__main__.py"):
        words = ["python", "-m", "hf_finetune", *words[1:]]
    resume = [] if "demo" in words[1:2] else ["--resume_from_checkpoint", "auto"]  # the demo starts again
    return shlex.join([*words, *resume])


def _drop(words: list[str], flag: str) -> list[str]:
    """Return the words without a flag and its values."""
    kept: list[str] = []
    dropping = False
    for word in words:
        name = word.lstrip("-").replace("-", "_").partition("=")[0]
        dropping = (word.startswith("--") and name == flag) or (dropping and not word.startswith("--"))
        if not dropping:
            kept.append(word)
    return kept


class VerbParser(argparse.ArgumentParser):
    """An ``argparse`` parser that raises ``UserError``. Flags of runs come from :mod:`hf_finetune.config` by name."""

    def __init__(self, program: str, description: str | None = None, **options: Any) -> None:
        super().__init__(
            prog=program, description=description, allow_abbrev=False, formatter_class=HelpFormatter, **options
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does; ``--top-k`` is ``--top_k``."""
        return super().parse_known_args(with_underscores(sys.argv[1:] if args is None else args), namespace)

    def error(self, message: str) -> NoReturn:
        """Raise a ``UserError``; argparse calls this for every mistake on the command line."""
        raise UserError(message, where="the command line", fix=f"{self.prog} --help shows the usage.")
