"""The command lines that begin with a task: ``train`` and ``check``."""

from __future__ import annotations

from hf_finetune.config import build_parser
from hf_finetune.config.parser import asked_for_help
from hf_finetune.errors import UserError, did_you_mean
from hf_finetune.tasks import TASKS


def take_task(verb: str, argv: list[str], own: type, usage: str) -> tuple[str, list[str]]:
    """Return the task, which may stand anywhere among the flags, and the other words.

    ``own`` are the flags of the command itself; ``usage`` is printed where help is asked for without a task.

    Raises:
        UserError: there is no such task, or none is named.
        SystemExit: the usage was printed.
    """
    actions = build_parser(own=own)._actions
    one_value = {flag for action in actions if action.nargs is None for flag in action.option_strings}
    free = [
        number
        for number, word in enumerate(argv)
        if not word.startswith("-") and (number == 0 or argv[number - 1] not in one_value)
    ]
    named = next((number for number in free if argv[number] in TASKS), None)
    if named is not None:
        return argv[named], [*argv[:named], *argv[named + 1 :]]
    if not argv or asked_for_help(argv):
        print(f"{usage}\n\ntasks: {', '.join(TASKS)}\n\nhf-finetune {verb} TASK --help shows the flags.")
        raise SystemExit(0)
    hint = did_you_mean(argv[free[0]], TASKS) if free else ""
    raise UserError(
        f"there is no task {argv[free[0]]!r}" if free else "no task is named",
        where=f"hf-finetune {verb}",
        fix=f"{hint}the tasks are {', '.join(TASKS)}.",
    )
