"""``hf-finetune serve RUN_OR_MODEL``: try a model in the browser."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from hf_finetune.cli.status import VerbParser
from hf_finetune.config import add_options, find_options


def main(argv: list[str]) -> None:
    """Load the model, and serve the page until Ctrl-C."""
    parser = VerbParser("hf-finetune serve", __doc__)
    parser.add_argument("model", metavar="RUN_OR_MODEL", help="run folder, model folder or Hub id")
    parser.add_argument("--host", default="127.0.0.1", help="address of the page (default: only this machine)")
    parser.add_argument("--port", type=int, default=7860, help="port of the page (default: 7860)")
    add_options(parser, find_options("trust_remote_code"), bare=True)
    known = parser.parse_args(argv)

    from hf_finetune.console import say
    from hf_finetune.evaluation.prediction.labeller import load_labeller
    from hf_finetune.publish.serve import import_gradio, is_loopback, refuse_address, serve

    refuse_address(known.host, known.port)
    import_gradio()
    labeller = load_labeller(known.model, trust_remote_code=known.trust_remote_code)
    if not is_loopback(known.host):
        say(f"Warning: at {known.host} everyone in the network can use the model, without a password.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that uploaded files are removed
    name = Path(known.model).resolve().name if Path(known.model).exists() else known.model
    serve(labeller, name, known.host, known.port, lambda address: say(f"The page is at {address} (Ctrl-C ends it)."))
