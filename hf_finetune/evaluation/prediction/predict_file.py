"""Predict a file or folder of any size in pieces, and continue after an interruption."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from datasets.utils import logging

from hf_finetune.config.options import DataConfig
from hf_finetune.console import is_main_process, say, without_bars
from hf_finetune.data.protocols import RowInput
from hf_finetune.data.rows.unlabelled import Fault, Unlabelled, find_faults, open_unlabelled
from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.answer_files import Unfinished
from hf_finetune.evaluation.prediction.labeller import Labeller, load_labeller, task_of
from hf_finetune.tasks.outputs import Output

SKIPPED = ".skipped.jsonl"
_MOST_LOGITS = 10_000_000  # per piece
_MOST_ANSWERS = 1_000_000  # names in --top_k lists, per piece


@dataclasses.dataclass(frozen=True)
class Predicted:
    """The result of a prediction."""

    rows: int  # number of written rows
    skipped: list[Fault]
    skipped_file: Path | None  # the list of them, ``labelled.skipped.jsonl``; None if skipping was not requested


def predict_file(
    model: str,
    source: str,
    output: Path,
    columns: DataConfig,
    *,
    batch_size: int = 64,
    top_k: int | None = None,
    trust_remote_code: bool = False,
) -> Predicted:
    """Write ``id``, ``prediction`` and, for classes, ``probability`` of every row, in input order.

    Memory is bounded by one piece of rows. Finished pieces are kept in ``OUTPUT.partial/``; the same command continues
    after them, and the result is the same, byte for byte. The output is written atomically.

    Args:
        model: run folder, model folder or Hub id.
        source: file of texts; folder, archive or table of paths of images; one image.
        output: a CSV, JSONL or Parquet file.
        columns: columns, encoding, delimiter and treatment of bad rows; text columns default to those of training.
        top_k: number of most probable classes to write as ``top_labels`` and ``top_probabilities``.

    Raises:
        UserError: no model, no input, a bad row, ``top_k`` for a model of numbers, or an output that cannot be written.
    """
    PartialState(cpu=not torch.accelerator.is_available())  # first: the first state decides about process groups
    if output.is_dir():
        raise UserError("this is a folder, not a file", where=f"--output {output}", fix="name a file.")
    if output.exists() and Path(source).exists() and output.samefile(source):
        raise UserError("this is the input, which would be lost", where=f"--output {output}", fix="name another file.")
    task, settings = task_of(model, trust_remote_code=trust_remote_code)
    with without_bars(logging):
        given = open_unlabelled(source, task.input.rows, columns, getattr(settings, "input_columns", None))
        labeller = load_labeller(model, trust_remote_code=trust_remote_code, task=task)
        answers = partial(_answers, labeller.output, top_k)
        # From the answer to example logits for which every class is predicted.
        schema = pa.table({"id": ["0"], **answers(labeller.output.example())}).schema
        size = _piece_rows(labeller, top_k)
        flags = {"columns": dataclasses.asdict(columns), "batch_size": batch_size, "top_k": top_k, "piece": size}
        made_of = _made_of(labeller, given, flags)
        unfinished = Unfinished(output)
        faults = _of_main(partial(unfinished.faults, made_of))
        if faults is None:
            with _bar("Checking", len(given)) as bar:
                faults = find_faults(given, size, columns, bar.update)
            _of_main(partial(unfinished.begin, made_of, faults))
        bad = {fault["row"] - 1 for fault in faults}
        _predict(labeller, given, unfinished, bad, size, batch_size, answers, schema)
        if given.changed():
            say(f"Warning: {source} changed meanwhile; these are the answers for the file as it was when it was read.")
        skip = "skip" in (columns.on_bad_row, columns.on_bad(task.input.rows.cell.column))
        listed = output.with_suffix(SKIPPED) if skip else None
        if is_main_process():
            unfinished.finish(schema, faults, listed)
    return Predicted(len(given) - len(faults), faults, listed)


def _piece_rows(labeller: Labeller, top_k: int | None) -> int:
    names = len(labeller.output.names)
    lists = min(top_k, names) if top_k else 1
    return min(labeller.task.input.piece_rows, max(64, min(_MOST_LOGITS // names, _MOST_ANSWERS // lists)))


def _made_of(labeller: Labeller, given: Unlabelled, flags: dict[str, Any]) -> dict[str, Any]:
    """Return everything that the output depends on, including what changes only the last digits of a logit."""
    state = PartialState()
    return {
        "model": _hash_model(labeller),
        "input": given.identity(),
        "flags": flags,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "machine": {"processes": state.num_processes, "device": state.device.type},
    }


def _of_main(find: Callable[[], Any]) -> Any:
    """Return the main process's result in all processes."""
    found = [find() if is_main_process() else None]
    broadcast_object_list(found)
    return found[0]


def _hash_model(labeller: Labeller) -> str:
    """Return a hash of weights, settings and preprocessing, independent of their path."""
    digest = hashlib.sha256()
    settings = labeller.model.config.to_dict()
    plain = {key: value for key, value in settings.items() if key not in ("_name_or_path", "transformers_version")}
    digest.update(json.dumps(plain, sort_keys=True, default=str).encode())
    for name, tensor in labeller.model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(labeller.task.input.describe_processor(labeller.processor).encode())
    return digest.hexdigest()


def _answers(output: Output, top_k: int | None, raw: Any) -> dict[str, list[Any]]:
    return output.answers(raw) | (output.top(raw, top_k) if top_k else {})


def _predict(
    labeller: Labeller,
    given: Unlabelled,
    unfinished: Unfinished,
    bad: set[int],
    size: int,
    batch_size: int,
    answers: Callable[[Any], dict[str, list[Any]]],
    schema: pa.Schema,
) -> None:
    """Predict and write the missing pieces of ``size`` rows each, without ``bad`` rows."""
    shortened = labeller.task.input.shortened()
    first = _of_main(unfinished.done)
    done = min(first * size, len(given))
    if done:
        say(f"{unfinished.folder} has the answers for {done:,} of {len(given):,} rows; this goes on behind them.")
    with _bar("Predicting", len(given), done) as bar:
        for number, piece in enumerate(given.pieces(size, first), first):
            begin = number * size
            kept = [row for row in range(len(piece)) if begin + row not in bad]
            rows = piece if len(kept) == len(piece) else piece.select(kept)
            columns: dict[str, list[Any]] = {}
            if kept:
                try:
                    inputs = labeller.encode(rows)
                    raw = labeller.predict(inputs, batch_size, partial(_advance, bar, len(piece)))
                except Exception as error:
                    _refuse_changes(rows, labeller.task.input.rows, given.source, error)
                    raise
                shortened.add(inputs)
                columns = {"id": rows["id"][:]} | answers(raw)
            if is_main_process():
                table = {field.name: pa.array(columns.get(field.name, []), field.type) for field in schema}
                unfinished.write(number, pa.table(table))
            bar.n = begin + len(piece)
    shortened.say("given", labeller.processor)


def _advance(bar: Any, rows: int, share: float) -> None:
    bar.update(share * rows)


def _refuse_changes(rows: Dataset, inputs: RowInput, source: str, error: Exception) -> None:
    """Raise a ``UserError`` if a file became unreadable after the check."""
    faults = inputs.unreadable(rows, list(range(len(rows))))
    if faults:
        first, reason = faults[0]
        raise UserError(
            f"the {inputs.cell.column} {rows[first]['id']!r} was read before and cannot be read now ({reason})",
            where=source,
            fix=f"leave the {inputs.cell.called} as they are meanwhile, and repeat the command.",
        ) from error


def _bar(title: str, rows: int, first: int = 0) -> Any:
    """Return a progress bar over rows; visible on a terminal in the main process only."""
    from tqdm.auto import tqdm

    quiet = None if is_main_process() else True
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:,.0f}/{total:,.0f} [{elapsed}<{remaining}, {rate_fmt}]"
    return tqdm(desc=title, total=rows, initial=first, unit="row", disable=quiet, leave=False, bar_format=form)
