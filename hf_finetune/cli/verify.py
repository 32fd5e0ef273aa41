"""``hf-finetune verify RUN``: a fresh process proves that the saved model gives what was measured."""

from __future__ import annotations

from pathlib import Path

from hf_finetune.cli.status import VerbParser


def main(argv: list[str]) -> None:
    """Parse, verify and say the outcome; ``verify.json`` in the run folder holds it.

    Raises:
        UserError: the saved model does not give what was measured, or the folder is no finished run.
    """
    parser = VerbParser(prog="hf-finetune verify", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--trust_remote_code", action="store_true", help="run Python code that the model carries")
    known = parser.parse_args(argv)

    from hf_finetune.publish.verify.verify import verify_run

    verify_run(Path(known.run), trust_remote_code=known.trust_remote_code)
