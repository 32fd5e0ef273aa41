"""``hf-finetune evaluate RUN``: evaluate the model of a run again, on its own held-out rows or on new ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_finetune.cli.status import VerbParser
from hf_finetune.config import add_options, find_options, options_of
from hf_finetune.config.options import EvaluateOptions
from hf_finetune.errors import UserError


def main(argv: list[str]) -> None:
    """Evaluate, and write the results to a new folder."""
    parser = VerbParser("hf-finetune evaluate", __doc__)
    parser.add_argument("run", metavar="RUN", help="run folder")
    sources = find_options("test_file", "test_dir", default="the run's own rows")
    add_options(parser.add_mutually_exclusive_group(), sources)
    add_options(parser, [*options_of(EvaluateOptions), *find_options("slice_column")], bare=True)
    add_options(parser, find_options("text_column", "label_column", default="what the run read"), bare=True)
    known = parser.parse_args(argv)
    run = Path(known.run)
    if not (run / "config.yaml").is_file():
        raise UserError("this is not a run folder: it has no config.yaml", where=known.run, fix="give a run folder.")

    from hf_finetune.config import parse
    from hf_finetune.console import say
    from hf_finetune.evaluation.reevaluate import reevaluate
    from hf_finetune.report import write_report

    flags = [f"--{name}={getattr(known, name)}" for name in ("text_column", "label_column") if getattr(known, name)]
    flags += ["--slice_column", *known.slice_column] if known.slice_column else []
    config = parse(["--config", str(run / "config.yaml"), *flags], program="hf-finetune evaluate")
    # A column that is named here takes the place of the run's own columns.
    replaced: dict[str, Any] = {f"{name}s": None for name in ("text_column", "label_column") if getattr(known, name)}
    config = replace(config, data=replace(config.data, **replaced))
    source = known.test_file or known.test_dir
    output = Path(known.output_dir or run / "evaluations" / (Path(source).stem if source else "again"))
    reevaluate(run, config, output, file=known.test_file, folder=known.test_dir)
    say(f"Report: {write_report(output)}")
