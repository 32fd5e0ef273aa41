"""``hf-finetune export RUN --format onnx``: write the model for use without PyTorch, and check it on rows of the run."""

from __future__ import annotations

from pathlib import Path

from hf_finetune.cli.status import VerbParser


def main(argv: list[str]) -> None:
    """Export, and print how the exported model compares with the original."""
    parser = VerbParser("hf-finetune export", __doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a finished run, with its data still in place")
    parser.add_argument("--format", choices=("onnx",), default="onnx", help="the only one so far (default: onnx)")
    parser.add_argument("--quantize", choices=("int8",), help="8-bit weights (default: float32)")
    words = (
        "refuse a model that differs by more: in float32 the largest difference of a logit, as a share of the largest "
        "logit (default: 0.001); in int8 the share of the headline metric that may be lost (default: 0.01)"
    )
    parser.add_argument("--tolerance", type=float, metavar="SHARE", help=words)
    words = "folder to make (default: RUN/onnx, with int8 RUN/onnx-int8)"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=words)
    parser.add_argument("--opset", type=int, metavar="N", help="version of ONNX' operators (default: torch's choice)")
    known = parser.parse_args(argv)

    from hf_finetune.publish.export.export import export_run

    export_run(known.run, known.output, quantize=known.quantize, tolerance=known.tolerance, opset=known.opset)
