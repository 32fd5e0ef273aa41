"""Compare an exported model with the original: logits and metric on the same rows, size, and time per row."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_finetune.console import show_table
from hf_finetune.data.splits.splits import spaced
from hf_finetune.errors import UserError
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.evaluation.prediction.forward import predict_rows
from hf_finetune.publish.export.judged_rows import JudgedRows
from hf_finetune.publish.export.onnx_model import OnnxClassifier
from hf_finetune.tasks.task import Task

BATCH = 16
TIMED = 50  # rows to time one by one
# Share of the largest logit: GPUs and other library versions cause smaller differences, another model larger ones.
SAME_MODEL = 0.05


@dataclass
class Comparison:
    """The result of a comparison.

    Args:
        rows: number of rows that were compared.
        largest_logit: largest absolute logit of the original.
        largest_difference: largest difference of a logit; for texts also at the maximum length.
        changed: share of rows with another prediction; None for numbers.
        metric: name of the headline metric.
        torch: the metric, ``bytes`` of the weights, and median ``milliseconds`` per row of the original.
        onnx: the metric, ``bytes`` of the files, and median ``milliseconds`` per row of the exported model.
        lost: relative loss of the headline metric; negative if the exported model is better.
    """

    rows: int
    largest_logit: float
    largest_difference: float
    changed: float | None
    metric: str
    torch: dict[str, float]
    onnx: dict[str, float]
    lost: float


def compare(model: Any, path: Path, task: Task, processor: Any, judged: JudgedRows) -> Comparison:
    """Run the original model (in evaluation mode) and an ONNX file on the evaluated rows, and return the comparison.

    Raises:
        UserError: onnxruntime cannot run the file, or the original's logits differ from those of the run.
    """
    exported = OnnxClassifier(path)
    rows, collate = task.input.encode(judged.rows, processor), task.input.collator(processor)
    output = task.outputs.of_model(model.config)
    read = partial(predict_rows, rows=rows, collate=collate, batch_size=BATCH, predict=output.predict, pool=output.pool)
    raw = read(model)
    _refuse_other_model(raw, judged)
    answers = read(exported)
    difference = _largest_difference(raw, answers)
    longest = task.input.longest(next(batches(task, processor, rows, 1)), processor)
    with torch.inference_mode():
        apart = model(**longest).logits - exported(**longest).logits
    difference = max(difference, float(apart.abs().max()))
    truth = output.truth_of(judged.rows)
    metric, greater = next(iter(output.METRICS.items()))
    before, after = (metrics_of(output, values, truth)[metric] for values in (raw, answers))
    decided = zip(output.decide(raw), output.decide(answers), strict=True)
    different = np.array([not np.array_equal(*pair) for pair in decided])
    milliseconds = time_pairs(
        model, exported, [next(batches(task, processor, [rows[int(i)]], 1)) for i in spaced(len(rows), TIMED)]
    )
    weights = sum(p.numel() * p.element_size() for p in [*model.parameters(), *model.buffers()])
    files = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    return Comparison(
        rows=len(judged.rows),
        largest_logit=_largest(raw),
        largest_difference=difference,
        changed=float(different.mean()) if output.HAS_CLASSES else None,
        metric=metric,
        torch={metric: before, "bytes": weights, "milliseconds": milliseconds[0]},
        onnx={metric: after, "bytes": files, "milliseconds": milliseconds[1]},
        lost=(before - after if greater else after - before) / (abs(before) or 1.0),
    )


def batches(task: Task, processor: Any, rows: Any, size: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the inputs of encoded rows in batches of ``size`` rows, without labels."""
    collate = task.input.collator(processor)
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


def _refuse_other_model(raw: np.ndarray, judged: JudgedRows) -> None:
    apart = _largest_difference(raw, judged.raw)
    if not apart <= SAME_MODEL * _largest(judged.raw):
        raise UserError(
            f"the model gives other logits than in the run's evaluation: one differs by {apart:.3g}",
            where="predictions.parquet",
            fix="restore the data and model/ of the run, or train again.",
        )


def show_comparison(found: Comparison, kind: str) -> None:
    """Print both models side by side; ``kind`` is the name of the exported one."""
    changed = "-" if found.changed is None else f"{found.changed:.2%}"
    rows = [
        (found.metric, f"{found.torch[found.metric]:.4f}", f"{found.onnx[found.metric]:.4f}"),
        ("size, MB", f"{found.torch['bytes'] / 1e6:.2f}", f"{found.onnx['bytes'] / 1e6:.2f}"),
        ("one row, ms", f"{found.torch['milliseconds']:.2f}", f"{found.onnx['milliseconds']:.2f}"),
        ("largest difference of a logit", "", f"{found.largest_difference:.2g} (of {found.largest_logit:.3g})"),
        ("rows with another prediction", "", changed),
    ]
    show_table(f"Compared on {found.rows} rows", ("", "torch", kind), rows)
