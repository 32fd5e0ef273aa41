"""``hf-finetune predict RUN_OR_MODEL INPUT``: predict labels for a file of texts, a folder of images or recordings, or one of them."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from hf_finetune.cli.status import VerbParser
from hf_finetune.config import add_options, find_options, options_of
from hf_finetune.config.options import DataConfig, PredictOptions
from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.answer_files import FORMATS


def main(argv: list[str]) -> None:
    """Predict, and write ``id``, ``prediction`` and ``probability`` of every row in the order of the input."""
    known = _parser().parse_args(argv)
    output = Path(known.output)
    for flag, value, what in (
        ("--batch_size", known.batch_size, "rows at once"),
        ("--top_k", known.top_k, "classes a row"),
    ):
        if value is not None and value < 1:
            raise UserError(f"{value} {what} are too few", where=flag, fix="give 1 or more.")
    if output.suffix not in FORMATS:
        what = f"files ending in {output.suffix!r} are not written"
        raise UserError(what, where="--output", fix=f"use one of {', '.join(FORMATS)}.")

    from hf_finetune.console import is_main_process, say
    from hf_finetune.evaluation.prediction.predict_file import predict_file

    data = {option.name for option in fields(DataConfig)} & vars(known).keys()
    try:
        found = predict_file(
            known.model,
            known.input,
            output,
            DataConfig(**{name: getattr(known, name) for name in data}),
            batch_size=known.batch_size,
            top_k=known.top_k,
            trust_remote_code=known.trust_remote_code,
        )
    except KeyboardInterrupt:
        if is_main_process():
            print("Interrupted; the same command continues where it stopped.", file=sys.stderr)
        raise
    left_out = f"; {len(found.skipped)} rows are left out, see {found.skipped_file}" if found.skipped else ""
    say(f"{found.rows} predictions in {output}{left_out}")


def _parser() -> VerbParser:
    parser = VerbParser("hf-finetune predict", __doc__)
    parser.add_argument("model", metavar="RUN_OR_MODEL", help="run folder, model folder or Hub id")
    files = "CSV, TSV, JSON, JSONL, Parquet or Arrow file of texts or of paths"
    parser.add_argument(
        "input", metavar="INPUT", help=f"{files}; folder or archive of images or recordings; one of them"
    )
    add_options(parser, options_of(PredictOptions), bare=True)
    columns = ("text_column", "text_columns", "text_pair_column", "image_column", "audio_column")
    add_options(parser, find_options(*columns, default="what the model was trained on"), bare=True)
    reading = ("image_root", "audio_root", "encoding", "delimiter", "on_bad_row", "on_bad_image", "on_bad_audio")
    add_options(parser, find_options(*reading, "trust_remote_code"), bare=True)
    return parser
