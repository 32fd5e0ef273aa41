"""``hf-finetune push RUN --hub_model_id NAME``: publish a finished run, or finish a push that was interrupted."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from hf_finetune.cli.status import VerbParser
from hf_finetune.config import add_options, find_options, options_of
from hf_finetune.config.options import PushOptions


def main(argv: list[str]) -> None:
    """Push a run. Flags have the same meaning as in ``train``."""
    parser = build_parser()
    known = parser.parse_args(argv)
    if known.hub_model_id is None:
        parser.error("the following arguments are required: --hub_model_id")
    if known.adapter_only and known.merged:
        parser.error("argument --merged: not allowed with argument --adapter_only")

    from hf_finetune.publish.hub.destination import Destination
    from hf_finetune.publish.hub.push import push_folder

    flags = {option.name for option in fields(Destination)}
    push_folder(known.run, Destination(**{k: v for k, v in vars(known).items() if k in flags and v is not None}))


def build_parser() -> VerbParser:
    """Return the parser; what ``train`` has as well is declared there."""
    parser = VerbParser("hf-finetune push", __doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder, which contains model/")
    taken = ("hub_model_id", "hub_private_repo", "hub_revision", "create_pr", "hub_token")
    add_options(parser, [*find_options(*taken), *options_of(PushOptions)], bare=True)
    return parser
