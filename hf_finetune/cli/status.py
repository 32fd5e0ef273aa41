"""Exit status: 0 done, 2 the user can mend it, 128 + signal interrupted; anything else is a defect of ours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from hf_finetune.console import is_main_process
from hf_finetune.errors import UserError


def run_as_script(main: Callable[[], Any]) -> int:
    """Run ``main`` and turn what it raises into what the shell is told.

    A user's mistake is one ``error:`` and one ``fix:`` line on standard error, without a traceback.
    """
    try:
        main()
    except UserError as error:
        if is_main_process():
            print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if type(error).__name__ != "Interrupted":  # not imported here: that would load torch for --help
            raise
        if is_main_process():
            print(f"{error}; a checkpoint was written. Go on with:\n  {_resume_command()}", file=sys.stderr)
        return 128 + error.number  # type: ignore[attr-defined]
    return 0


def _resume_command() -> str:
    import shlex

    from hf_finetune.config import without_secrets

    words = without_secrets([word for word in sys.argv if word != "--overwrite_output_dir"])
    while "--resume_from_checkpoint" in words:
        at = words.index("--resume_from_checkpoint")
        del words[at : at + 2]
    return shlex.join(words) + " --resume_from_checkpoint auto"
