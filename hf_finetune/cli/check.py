"""``hf-finetune check TASK …``: what is wrong with the data, and what the plan costs, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_finetune.cli.status import VerbParser
from hf_finetune.cli.task_flags import take_task
from hf_finetune.config import add_options, options_of, parse
from hf_finetune.config.flags import with_underscores
from hf_finetune.config.options import CheckOptions
from hf_finetune.errors import UserError
from hf_finetune.tasks import TASKS

if TYPE_CHECKING:
    from hf_finetune.data.rows.finding import Finding


_USAGE = (
    "usage: hf-finetune check TASK [--strict] [--config FILE] [flags]\n\n"
    "Checks the data of 'hf-finetune train TASK' with the same flags, and says what training would cost. Writes\n"
    "check.html and check.json into --output_dir. Errors give status 2; with --strict warnings do as well."
)


def main(argv: list[str]) -> None:
    """Check, print, and write ``check.html`` and ``check.json`` into the output folder."""
    name, rest = take_task("check", with_underscores(argv), CheckOptions, _USAGE)
    parser = VerbParser("hf-finetune check", add_help=False)
    add_options(parser, options_of(CheckOptions))
    own, rest = parser.parse_known_args(rest)
    config = parse(rest, program=f"hf-finetune check {name}", own=CheckOptions, reads=TASKS[name])

    from hf_finetune.checks import check_data, check_model, show_report, write_report
    from hf_finetune.checks.report import HTML, all_findings
    from hf_finetune.console import say
    from hf_finetune.data import load_splits
    from hf_finetune.models.precision import half_precision
    from hf_finetune.tasks import get_task
    from hf_finetune.training.run import prepare

    if config.data.streaming:
        what = "a check compares all rows with each other, and a stream reads one after the other"
        fix = "leave it out, and check a part of the rows with --max_train_samples."
        raise UserError(what, where="--streaming", fix=fix)
    config, task = prepare(config), get_task(name)
    splits = load_splits(config.data, task)
    sections, inspection = check_data(config, task, splits)
    try:
        sections += check_model(config, task, inspection, half_precision(config.training))
    finally:  # what was found is kept although the checkpoint cannot be loaded
        show_report(sections)
        write_report(config.output_dir, f"Check of {splits.source} for {name}", sections)
        say(f"Report: {config.output_dir / HTML}")
    _refuse(all_findings(sections), strict=own.strict)


def _refuse(findings: list[Finding], *, strict: bool) -> None:
    """Refuse data with errors, and with ``--strict`` data with warnings."""
    wrong = [f for f in findings if f.severity == "error" or (strict and f.severity == "warning")]
    if wrong:
        first = wrong[0]
        rows = f" (first: {first.rows[0]})" if first.rows else ""
        kind = "error" if all(f.severity == "error" for f in wrong) else "thing"
        count = f"{len(wrong)} {kind}{'s' if len(wrong) > 1 else ''}"
        what = f"the check found {count} to fix; the first: {first.code}: {first.message}{rows}"
        raise UserError(what, where=first.where, fix=first.fix or "see the report.")
