"""``hf-finetune report RUN``: write the report of a run again, from the files of the run folder."""

from __future__ import annotations

from pathlib import Path

from hf_finetune.cli.status import VerbParser


def main(argv: list[str]) -> None:
    """Write the report, and print where it is."""
    parser = VerbParser("hf-finetune report", __doc__)
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--output", help="HTML file (default: report.html in the run folder)")
    known = parser.parse_args(argv)

    from hf_finetune.console import say
    from hf_finetune.report import write_report

    say(f"Report: {write_report(Path(known.run), Path(known.output) if known.output else None)}")
