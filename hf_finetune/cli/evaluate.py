"""``hf-finetune evaluate RUN``: judge the model of a run once more, on its own held-out rows or on others."""

from __future__ import annotations

from pathlib import Path

from hf_finetune.cli.status import VerbParser
from hf_finetune.errors import UserError


def main(argv: list[str]) -> None:
    """Parse, judge, and write the figures into a folder of their own.

    Raises:
        UserError: no run, or rows that do not suit its model.
    """
    parser = VerbParser(prog="hf-finetune evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="run folder")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--test_file", help="labelled rows (default: the run's own test rows)")
    rows.add_argument("--test_dir", help="folder of images or .txt files, one sub-folder a class")
    parser.add_argument("--output_dir", help="where the figures go (default: RUN/evaluations/NAME)")
    parser.add_argument("--slice_column", nargs="+", help="columns by whose values the rows are judged as well")
    parser.add_argument("--text_column", help="column of the text (default: what the run read)")
    parser.add_argument("--label_column", help="column of the label (default: what the run read)")
    known = parser.parse_args(argv)
    run = Path(known.run)
    if not (run / "config.yaml").is_file():
        raise UserError("this is no run folder: it holds no config.yaml", where=known.run, fix="name a run folder.")

    from hf_finetune.config import parse
    from hf_finetune.console import say
    from hf_finetune.evaluation.again import evaluate_again
    from hf_finetune.report import write_report

    flags = [f"--{name}={getattr(known, name)}" for name in ("text_column", "label_column") if getattr(known, name)]
    flags += ["--slice_column", *known.slice_column] if known.slice_column else []
    config = parse(["--config", str(run / "config.yaml"), *flags], program="hf-finetune evaluate")
    source = known.test_file or known.test_dir
    output = Path(known.output_dir or run / "evaluations" / (Path(source).stem if source else "again"))
    evaluate_again(run, config, output, file=known.test_file, folder=known.test_dir)
    say(f"Report: {write_report(output)}")
