"""``hf-finetune compare RUN RUN …``: say which of several runs is better on the same rows."""

from __future__ import annotations

from pathlib import Path

from hf_finetune.cli.status import VerbParser
from hf_finetune.errors import UserError


def main(argv: list[str]) -> None:
    """Compare all runs with the first, print the result, and write it as JSON to ``--output``."""
    parser = VerbParser("hf-finetune compare", __doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders; all are compared with the first")
    parser.add_argument("--metric", help="a built-in metric (default: the one of the first run's headline)")
    parser.add_argument("--output", metavar="FILE", help="write the comparison as JSON")
    known = parser.parse_args(argv)
    if len(known.runs) < 2:
        raise UserError("there is only one run to compare", where="RUN", fix="give two or more run folders.")

    from hf_finetune.console import say, show_table
    from hf_finetune.evaluation.compare_runs import compare_runs
    from hf_finetune.files import write_json, writing

    found = compare_runs([Path(run) for run in known.runs], known.metric)
    rows = [(each["run"], f"{each['value']:.4f}", _span(each["interval"])) for each in found["runs"]]
    show_table(f"{found['metric']} on {found['rows']:,} rows", ("run", found["metric"], "95 % interval"), rows)
    for each in found["comparisons"]:
        say(each["verdict"])
        if "mcnemar" in each:
            test = each["mcnemar"]
            say(
                f"    McNemar: {test['only_a']} rows are right in {Path(each['run']).name} only, {test['only_b']} in "
                f"{Path(each['with']).name} only; p = {test['p']:.3g}."
            )
    if known.output:
        with writing("file", f"--output {known.output}", "choose another file."):
            write_json(Path(known.output), found)


def _span(interval: list[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
