"""``hf-finetune push RUN --hub_model_id NAME``: publish a finished run, or finish a push that was cut off."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_finetune.cli.status import VerbParser


def main(argv: list[str]) -> None:
    """Parse and push. The flags that ``train`` has as well mean the same.

    Raises:
        UserError: no finished run, something private in it, no right to write there, or the Hub refused.
    """
    parser = VerbParser(prog="hf-finetune push", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder, the one that holds model/")
    parser.add_argument("--hub_model_id", required=True, help="NAMESPACE/NAME, or NAME in your own namespace")
    parser.add_argument(
        "--hub_private_repo",
        nargs="?",
        const=True,
        type=_yes_or_no,
        metavar="true|false",
        help="make the repository private, or public; refused where it is the other (default: the Hub's own)",
    )
    parser.add_argument("--hub_revision", metavar="BRANCH", help="branch, made where there is none (default: main)")
    parser.add_argument("--create_pr", action="store_true", help="propose the commit as a pull request")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--adapter_only", action="store_true", help="push an adapter as it is (default)")
    kind.add_argument("--merged", action="store_true", help="push an adapter folded into its base, a whole model")
    parser.add_argument("--commit_message", help="first line of the commit")
    parser.add_argument("--hub_token", help="token (better: HF_TOKEN, which no list of processes shows)")
    known = parser.parse_args(argv)

    from hf_finetune.publish.hub.destination import MESSAGE, Destination
    from hf_finetune.publish.hub.push import push_folder

    message = MESSAGE if known.commit_message is None else known.commit_message
    to = Destination(
        known.hub_model_id,
        hub_private_repo=known.hub_private_repo,
        hub_revision=known.hub_revision,
        create_pr=known.create_pr,
        merged=known.merged,
        commit_message=message,
        hub_token=known.hub_token,
    )
    push_folder(known.run, to)


def _yes_or_no(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"true or false is expected, not {word!r}")
    return word.lower() == "true"
