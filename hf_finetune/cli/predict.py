"""``hf-finetune predict RUN_OR_MODEL INPUT``: labels for a file of texts, a folder of pictures or one picture."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.cli.status import VerbParser
from hf_finetune.errors import UserError
from hf_finetune.options import DataConfig

if TYPE_CHECKING:
    from datasets import Dataset

WRITERS = {".csv": "to_csv", ".jsonl": "to_json", ".parquet": "to_parquet"}
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


def main(argv: list[str]) -> None:
    """Parse, predict, and write ``id``, ``prediction`` and ``probability`` of every row, in the order of the input.

    Raises:
        UserError: no model, no input, an unreadable picture, or an output of an unknown kind.
    """
    parser = VerbParser(prog="hf-finetune predict", description=__doc__, allow_abbrev=False)
    parser.add_argument("model", metavar="RUN_OR_MODEL", help="run folder, model folder or Hub id")
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="CSV, TSV, JSON, JSONL, Parquet or Arrow file of texts or of paths of pictures; folder or archive of "
        "pictures; one picture",
    )
    parser.add_argument(
        "--output", default="predictions.csv", help="CSV, JSONL or Parquet file (default: predictions.csv)"
    )
    parser.add_argument("--text_column", help="column of the text (default: what the model was trained on)")
    parser.add_argument("--text_columns", nargs="+", help="several columns that make one text")
    parser.add_argument("--text_pair_column", help="column of the second text (default: what the model was trained on)")
    parser.add_argument("--image_column", help="column of the paths of pictures (default: found by name)")
    parser.add_argument("--image_root", help="folder that the paths start from (default: the table's own)")
    parser.add_argument("--batch_size", type=int, default=64, help="rows at once (default: 64)")
    parser.add_argument("--trust_remote_code", action="store_true", help="run Python code that the model carries")
    known = parser.parse_args(argv)
    output = Path(known.output)
    if known.batch_size < 1:
        raise UserError(f"{known.batch_size} rows at once are too few", where="--batch_size", fix="give 1 or more.")
    if output.suffix not in WRITERS:
        raise UserError(
            f"files ending in {output.suffix!r} are not written",
            where="--output",
            fix=f"use one of {', '.join(WRITERS)}.",
        )

    from hf_finetune.console import say

    columns = DataConfig(
        text_column=known.text_column,
        text_columns=known.text_columns,
        text_pair_column=known.text_pair_column,
        image_column=known.image_column,
        image_root=known.image_root,
    )
    frame = predict(known.model, known.input, columns, known.batch_size, known.trust_remote_code)
    _write(frame, output)
    say(f"{len(frame)} predictions in {output}")


def predict(model_name: str, source: str, columns: DataConfig, batch_size: int, trust_remote_code: bool = False) -> Any:
    """A data frame with the columns ``id``, ``prediction`` and (but for numbers) ``probability``.

    Args:
        model_name: run folder, model folder or Hub id.
        source: file of texts; folder, archive or table of paths of pictures; one picture.
        columns: what the user named of columns; text columns that are not named are those that the model was trained on.
        batch_size: rows at once.
        trust_remote_code: run Python code that the model carries.
    """
    import pandas as pd

    from hf_finetune.data.audit import audit_images
    from hf_finetune.data.image_sources import read_unlabelled
    from hf_finetune.evaluation.predict import predict_logits
    from hf_finetune.evaluation.targets import target_of
    from hf_finetune.models import load_artifact, load_settings, task_name
    from hf_finetune.options import ModelConfig
    from hf_finetune.tasks import get_task
    from hf_finetune.tasks.long_texts import say_long_texts

    folder = Path(model_name, "model")
    name = str(folder) if folder.is_dir() else model_name
    settings = load_settings(ModelConfig(model_name_or_path=name, trust_remote_code=trust_remote_code))
    task = get_task(task_name(settings))
    if task.KIND == "image":
        rows = audit_images(read_unlabelled(Path(source), columns), source)
    else:
        rows = _read_texts(source, columns, getattr(settings, "input_columns", None))
    model = load_artifact(name, task.AUTO_CLASS, trust_remote_code=trust_remote_code)
    processor = task.load_processor(name, trust_remote_code=trust_remote_code)
    inputs = task.encode(rows, processor)
    if task.KIND == "text":
        say_long_texts("given", inputs, processor)
    logits = predict_logits(model, inputs, task.collator(processor), batch_size)
    return pd.DataFrame({"id": rows["id"][:], **target_of(model.config).answers(logits)})


def _read_texts(source: str, columns: DataConfig, trained: dict[str, list[str]] | None) -> Dataset:
    from hf_finetune.data.columns import find_texts
    from hf_finetune.data.tables import read_file
    from hf_finetune.data.texts import standard_texts

    rows = read_file(source)
    inputs = find_texts(rows, columns, ("label",), trained)
    ids = [str(i) for i in rows["id"][:]] if "id" in rows.column_names else [str(i) for i in range(len(rows))]
    return standard_texts(rows, inputs, source).add_column("id", ids)


def _write(frame: Any, output: Path) -> None:
    options: dict[str, Any] = {"orient": "records", "lines": True} if output.suffix == ".jsonl" else {"index": False}
    if output.suffix == ".csv":
        frame = frame.map(_csv_cell)
        if frame.map(lambda cell: isinstance(cell, str) and "\r" in cell).any(axis=None):
            options["quoting"] = csv.QUOTE_NONNUMERIC  # Python before 3.13 leaves such cells bare, and they end a row
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        getattr(frame, WRITERS[output.suffix])(output, **options)
    except OSError as error:
        raise UserError(
            f"the file cannot be written ({error})", where=str(output), fix="name another with --output."
        ) from error


def _csv_cell(value: Any) -> Any:
    """Lists as JSON. Text that a spreadsheet would run as a formula gets a ``'`` in front, which it shows as text."""
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
