"""``hf-finetune demo [text|image]``: fine-tune real pretrained models on real data with the ordinary recipes."""

from __future__ import annotations

from hf_finetune.cli.status import VerbParser


def main(argv: list[str]) -> None:
    """Run one demo or both."""
    parser = VerbParser("hf-finetune demo", __doc__)
    parser.add_argument("which", nargs="?", choices=("text", "image"), help="only this one (default: both)")
    parser.add_argument("--output_dir", default="runs", help="folder of the run folders (default: runs)")
    known = parser.parse_args(argv)

    from hf_finetune.demo import run_demo

    run_demo(known.which, known.output_dir)
