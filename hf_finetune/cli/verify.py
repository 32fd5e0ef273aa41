"""``hf-finetune verify RUN``: a fresh process proves that the saved model gives what was measured."""

from __future__ import annotations

from pathlib import Path

from hf_finetune.cli.status import VerbParser
from hf_finetune.config import add_options, find_options


def main(argv: list[str]) -> None:
    """Parse, verify and say the outcome; ``verify.json`` in the run folder holds it.

    Raises:
        UserError: the saved model does not give what was measured, or the folder is no finished run.
    """
    parser = VerbParser("hf-finetune verify", __doc__)
    parser.add_argument("run", metavar="RUN", help="run folder")
    add_options(parser, find_options("trust_remote_code"), bare=True)
    known = parser.parse_args(argv)

    from hf_finetune.publish.verify.verify import verify_run

    verify_run(Path(known.run), trust_remote_code=known.trust_remote_code)
