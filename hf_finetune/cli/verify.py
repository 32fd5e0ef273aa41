"""``hf-finetune verify RUN``: check in a fresh process that the saved model gives the logits that were evaluated."""

from __future__ import annotations

from pathlib import Path

from hf_finetune.cli.status import VerbParser
from hf_finetune.config import add_options, find_options


def main(argv: list[str]) -> None:
    """Verify, print the result, and write it to ``verify.json`` in the run folder."""
    parser = VerbParser("hf-finetune verify", __doc__)
    parser.add_argument("run", metavar="RUN", help="run folder")
    add_options(parser, find_options("trust_remote_code"), bare=True)
    known = parser.parse_args(argv)

    from hf_finetune.publish.verify.verify import verify_run

    verify_run(Path(known.run), trust_remote_code=known.trust_remote_code)
