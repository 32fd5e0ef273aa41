"""``hf-finetune VERB …``: find the file of the verb, and pass the arguments to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from hf_finetune import __version__
from hf_finetune.cli.status import run_as_script
from hf_finetune.errors import UserError, did_you_mean

VERBS = {
    "train": "fine-tune a checkpoint:  hf-finetune train TASK [flags]",
    "check": "find what is wrong with the data before training:  hf-finetune check TASK [flags]",
    "evaluate": "evaluate a run again, on its own held-out rows or on new ones:  hf-finetune evaluate RUN [--test_file FILE]",
    "compare": "say which of several runs is better on the same rows:  hf-finetune compare RUN RUN",
    "predict": "label texts, images or recordings with a trained model:  hf-finetune predict RUN_OR_MODEL INPUT",
    "report": "write the report of a run again:  hf-finetune report RUN",
    "verify": "check that the saved model is the one that was evaluated:  hf-finetune verify RUN",
    "export": "write a model for use without PyTorch, as ONNX:  hf-finetune export RUN",
    "push": "publish a finished run on the Hub:  hf-finetune push RUN --hub_model_id NAME",
    "serve": "try a trained model in the browser:  hf-finetune serve RUN_OR_MODEL",
    "demo": "fine-tune a real text model and a real image model on real data:  hf-finetune demo [text|image]",
}


def main(argv: list[str] | None = None) -> int:
    """Run a verb; the exit status is described in :mod:`hf_finetune.cli.status`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        print(f"hf-finetune {__version__}")
        return 0
    return run_as_script(lambda: _verb(argv[0])(argv[1:]))


def usage() -> str:
    """Return the text of ``hf-finetune --help``."""
    verbs = "\n".join(f"  {name:<9}{text}" for name, text in VERBS.items())
    return (
        "usage: hf-finetune VERB ...\n\nFine-tune pretrained text, image and audio models of the Hugging Face ecosystem.\n\n"
        f"verbs:\n{verbs}\n\n  hf-finetune VERB --help shows the flags of a verb."
    )


def _verb(name: str) -> Callable[[list[str]], None]:
    if name not in VERBS:
        what = f"there is no verb {name!r}; there are {', '.join(VERBS)}"
        hint = did_you_mean(name, VERBS)
        raise UserError(what, where="the command line", fix=f"{hint}hf-finetune --help lists the verbs.")
    return import_module(f"hf_finetune.cli.{name}").main
