"""Compare an exported model with the original: logits and metric on the evaluated rows of the run, size, and time per row."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from hf_finetune.config import Config
from hf_finetune.data.rows.audit import audit_files
from hf_finetune.data.splits.splits import spaced
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.evaluation.prediction.labeller import Labeller
from hf_finetune.evaluation.reevaluate import held_out_rows
from hf_finetune.publish.export.onnx_model import OnnxClassifier
from hf_finetune.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 16
TIMED = 50  # rows to time one by one
MOST_ROWS = 2000  # rows to compare
# Share of the largest logit: GPUs and other library versions cause smaller differences, another model larger ones.
SAME_MODEL = 0.05


class JudgedRows(NamedTuple):
    """Rows of ``predictions.parquet``, or an evenly spaced part of them; and rows to calibrate on."""

    rows: Dataset
    raw: np.ndarray  # their raw outputs in predictions.parquet
    others: Dataset  # from the training split, or from the validation split of a stream


@dataclass
class Comparison:
    """The result of a comparison; docs/export.md describes the values."""

    rows: int
    largest_logit: float
    largest_difference: float
    changed: float | None
    metric: str
    torch: dict[str, float]
    onnx: dict[str, float]
    lost: float


def read_judged(run: Path, config: Config, task: Task) -> JudgedRows:
    """Read the evaluated rows of a run with their labels, from the data named in its configuration.

    Raises:
        UserError: the rows cannot be read, or are not those that the run was evaluated on.
    """
    import pandas as pd

    fix = f"restore the data, or correct its path in {run / 'config.yaml'}."
    try:
        split, judged, splits = held_out_rows(run, config, task)
    except UserError as error:
        at = f"{error.where}: " if error.where else ""
        what = f"the export is checked on the evaluated rows of the run, which cannot be read ({at}{error.what})"
        raise UserError(what, where=str(run), fix=fix) from error
    known = pd.read_parquet(run / "predictions.parquet")
    if judged is None or judged["id"][:] != known["id"].tolist():
        raise UserError(f"the {split} rows in the data are not those of predictions.parquet", where=str(run), fix=fix)
    chosen = spaced(len(judged), MOST_ROWS)
    others = (splits.validation or judged) if isinstance(splits.train, Stream) else splits.train
    others = others.select(spaced(len(others), MOST_ROWS))
    others = audit_files(others, task.input.rows, "training split", config.data.on_bad_image)
    return JudgedRows(judged.select(chosen), splits.output.read_raw(known["logits"].tolist())[chosen], others)


def compare(labeller: Labeller, path: Path, judged: JudgedRows) -> Comparison:
    """Run the original model and an ONNX file on the evaluated rows, and return the comparison.

    Raises:
        UserError: onnxruntime cannot run the file, or the original's logits differ from those of the run.
    """
    model, output, exported = labeller.model, labeller.output, OnnxClassifier(path)
    rows = labeller.encode(judged.rows)
    raw = labeller.predict(rows, BATCH)
    _refuse_other_model(raw, judged.raw)
    answers = replace(labeller, model=exported).predict(rows, BATCH)
    longest = labeller.task.input.longest(next(batches(labeller, rows, 1)), labeller.processor)
    with torch.inference_mode():
        apart = model(**longest).logits - exported(**longest).logits
    truth = output.truth_of(judged.rows)
    metric, greater = next(iter(output.METRICS.items()))
    before, after = (metrics_of(output, values, truth)[metric] for values in (raw, answers))
    decided = zip(output.decide(raw), output.decide(answers), strict=True)
    changed = float(np.mean([not np.array_equal(*pair) for pair in decided]))
    timed = [next(batches(labeller, [rows[int(index)]], 1)) for index in spaced(len(rows), TIMED)]
    milliseconds = time_pairs(model, exported, timed)
    weights = sum(p.numel() * p.element_size() for p in [*model.parameters(), *model.buffers()])
    files = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    return Comparison(
        rows=len(judged.rows),
        largest_logit=_largest(raw),
        largest_difference=max(_largest_difference(raw, answers), float(apart.abs().max())),
        changed=changed if output.HAS_CLASSES else None,
        metric=metric,
        torch={metric: before, "bytes": weights, "milliseconds": milliseconds[0]},
        onnx={metric: after, "bytes": files, "milliseconds": milliseconds[1]},
        lost=(before - after if greater else after - before) / (abs(before) or 1.0),
    )


def batches(labeller: Labeller, rows: Any, size: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the inputs of encoded rows in batches of ``size`` rows, without labels."""
    collate = labeller.task.input.collator(labeller.processor)
    for start in range(0, len(rows), size):
        batch = collate([rows[index] for index in range(start, min(start + size, len(rows)))])
        yield {name: values for name, values in batch.items() if name != "labels"}


def time_pairs(model: Any, exported: Any, inputs: list[dict[str, torch.Tensor]]) -> tuple[float, float]:
    """Return the median milliseconds per row of both models, timed alternately so that a busy machine slows both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for batch in [*inputs[:3], *inputs]:
            for taken, one in zip(seconds, (model, exported), strict=True):
                began = time.perf_counter()
                one(**batch)
                taken.append(time.perf_counter() - began)
    warm = min(3, len(inputs))
    return 1000 * float(np.median(seconds[0][warm:])), 1000 * float(np.median(seconds[1][warm:]))


def _largest(raw: Iterable[np.ndarray]) -> float:
    """Return the largest absolute value of raw outputs."""
    return float(np.max([np.abs(row).max() for row in raw]))


def _largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    return _largest(a - b for a, b in zip(one, other, strict=True))


def _refuse_other_model(raw: np.ndarray, known: np.ndarray) -> None:
    apart = _largest_difference(raw, known)
    if not apart <= SAME_MODEL * _largest(known):
        what = f"the model gives other logits than in the run's evaluation: one differs by {apart:.3g}"
        fix = "restore the data and model/ of the run, or train again."
        raise UserError(what, where="predictions.parquet", fix=fix)


def rows_of(found: Comparison) -> list[tuple[str, str, str]]:
    """Return a table of both models side by side: figure, original, exported."""
    changed = "-" if found.changed is None else f"{found.changed:.2%}"
    return [
        (found.metric, f"{found.torch[found.metric]:.4f}", f"{found.onnx[found.metric]:.4f}"),
        ("size, MB", f"{found.torch['bytes'] / 1e6:.2f}", f"{found.onnx['bytes'] / 1e6:.2f}"),
        ("one row, ms", f"{found.torch['milliseconds']:.2f}", f"{found.onnx['milliseconds']:.2f}"),
        ("largest difference of a logit", "", f"{found.largest_difference:.2g} (of {found.largest_logit:.3g})"),
        ("rows with another prediction", "", changed),
    ]
