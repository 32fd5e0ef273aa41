"""``hf-finetune predict RUN_OR_MODEL INPUT``: labels for a file of texts, a folder of pictures or one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.cli.status import VerbParser
from hf_finetune.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

WRITERS = {".csv": "to_csv", ".jsonl": "to_json", ".parquet": "to_parquet"}


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
        help="CSV, TSV, JSON, JSONL, Parquet or Arrow file of texts; folder of pictures; one picture",
    )
    parser.add_argument(
        "--output", default="predictions.csv", help="CSV, JSONL or Parquet file (default: predictions.csv)"
    )
    parser.add_argument("--text_column", help="column of the text (default: found by name and type)")
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

    frame = predict(known.model, known.input, known.text_column, known.batch_size, known.trust_remote_code)
    _write(frame, output)
    say(f"{len(frame)} predictions in {output}")


def predict(
    model_name: str, source: str, text_column: str | None, batch_size: int, trust_remote_code: bool = False
) -> Any:
    """A data frame with the columns ``id``, ``prediction`` and (but for numbers) ``probability``."""
    import pandas as pd

    from hf_finetune.data.audit import audit_images
    from hf_finetune.evaluation.predict import predict_logits
    from hf_finetune.evaluation.targets import target_of
    from hf_finetune.models import load_artifact, load_settings, task_name
    from hf_finetune.options import ModelConfig
    from hf_finetune.tasks import get_task

    folder = Path(model_name, "model")
    name = str(folder) if folder.is_dir() else model_name
    settings = load_settings(ModelConfig(model_name_or_path=name, trust_remote_code=trust_remote_code))
    task = get_task(task_name(settings))
    rows = _read_pictures(Path(source)) if task.KIND == "image" else _read_texts(source, text_column)
    if task.KIND == "image":
        rows = audit_images(rows, source)
    model = load_artifact(name, task.AUTO_CLASS, trust_remote_code=trust_remote_code)
    processor = task.load_processor(name, trust_remote_code=trust_remote_code)
    logits = predict_logits(model, task.encode(rows, processor), task.collator(processor), batch_size)
    return pd.DataFrame({"id": list(rows["id"]), **target_of(model.config).answers(logits)})


def _read_texts(source: str, text_column: str | None) -> Dataset:
    from hf_finetune.data.columns import find_text, is_string
    from hf_finetune.data.tables import read_file

    rows = read_file(source)
    column = find_text(rows, text_column, ("label",))
    if not is_string(rows, column):
        raise UserError(
            f"column {column!r} holds no text", where=source, fix="name the column of the texts with --text_column."
        )
    ids = [str(i) for i in rows["id"]] if "id" in rows.column_names else [str(i) for i in range(len(rows))]
    texts = rows.select_columns([column]).rename_columns({} if column == "text" else {column: "text"})
    empty = [i + 1 for i, text in enumerate(texts["text"]) if text is None]
    if empty:
        raise UserError(f"row {empty[0]} has no text", where=source, fix="fill the texts in, or drop these rows.")
    return texts.add_column("id", ids)


def _read_pictures(source: Path) -> Dataset:
    from datasets import Dataset, Features, Image, Value

    from hf_finetune.data.images import list_pictures

    if not source.exists():
        raise UserError("there is no such file or folder", where=str(source), fix="check the path.")
    files = list_pictures(source) if source.is_dir() else [source]
    if not files:
        raise UserError("the folder holds no pictures", where=str(source), fix="name a folder of pictures.")
    root = source if source.is_dir() else source.parent
    return Dataset.from_dict(
        {
            "id": [file.relative_to(root).as_posix() for file in files],
            "image": [{"bytes": None, "path": str(f)} for f in files],
        },
        features=Features({"id": Value("string"), "image": Image(decode=False)}),
    )


def _write(frame: Any, output: Path) -> None:
    options: dict[str, Any] = {"orient": "records", "lines": True} if output.suffix == ".jsonl" else {"index": False}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        getattr(frame, WRITERS[output.suffix])(output, **options)
    except OSError as error:
        raise UserError(
            f"the file cannot be written ({error})", where=str(output), fix="name another with --output."
        ) from error
