"""Export the model of a run as ONNX, and compare its logits with the original's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from timeit import timeit
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import transformers
from accelerate import PartialState
from datasets import Dataset

from hf_finetune.activations.rows import load_batch, model_inputs
from hf_finetune.config import Config, parse
from hf_finetune.console import say, show_table
from hf_finetune.data.rows.audit import audit_files
from hf_finetune.data.splits.splits import spaced
from hf_finetune.data.splits.stream import Stream
from hf_finetune.errors import UserError
from hf_finetune.evaluation.metrics import metrics_of
from hf_finetune.evaluation.prediction.labeller import Labeller, load_labeller
from hf_finetune.evaluation.reevaluate import held_out_rows
from hf_finetune.files import write_json
from hf_finetune.models import is_adapter
from hf_finetune.publish.card import markdown_table
from hf_finetune.publish.export import onnx_model
from hf_finetune.publish.export.onnx_model import FILE, OPSETS
from hf_finetune.tasks.task import Input, Task

# Largest difference of a logit, as a share of the largest logit; and share of the headline metric that int8 may lose.
TOLERANCES = {None: 1e-3, "int8": 0.01}
MOST_CALIBRATED = 128  # rows to measure the ranges of int8 activations

BATCH = 16
TIMED = 50  # rows to time one by one
MOST_ROWS = 2000  # rows to compare
# Share of the largest logit: GPUs and other library versions cause smaller differences, another model larger ones.
SAME_MODEL = 0.05

# Files of model/ that an exported model does not need.
_WEIGHTS = (".safetensors", ".bin", ".py", ".index.json")
_OF_MLP_HEAD = ("auto_map", "mlp_head_on", "head_hidden_size")


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


def export_run(
    run: Path,
    output: Path | None = None,
    *,
    quantize: str | None = None,
    tolerance: float | None = None,
    opset: int | None = None,
) -> Comparison:
    """Export a run's model as ONNX with all files that it needs, if it agrees with torch on the evaluated rows.

    Args:
        run: the run folder.
        output: the new folder; by default ``onnx`` or ``onnx-int8`` in the run folder. An earlier export is replaced.
        quantize: ``"int8"``, or None for float32.
        tolerance: see :data:`TOLERANCES`.
        opset: version of ONNX operators; None for the exporter's choice.

    Raises:
        UserError: a package is missing, the run is not finished, its rows cannot be read, the model cannot be exported, or
            the exported model differs. No files are left then.
    """
    onnx_model.require_extra()
    output = output or run / ("onnx-int8" if quantize else "onnx")
    kind = f"ONNX {quantize or 'float32'}"
    tolerance = TOLERANCES[quantize] if tolerance is None else tolerance
    _check_asked(output, tolerance, opset)

    PartialState(cpu=True)  # the exported model is for CPUs, so both models are compared there
    config = _read_config(run)
    labeller = load_labeller(str(run), trust_remote_code=config.model.trust_remote_code)
    judged = read_judged(run, config, labeller.task)
    if is_adapter(labeller.model):
        labeller = replace(labeller, model=labeller.model.merge_and_unload())
    unfinished = output.with_name(output.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        _build(unfinished, run, labeller, judged, quantize, opset)
        found = compare(labeller, unfinished / FILE, judged)
        show_table(f"Compared on {found.rows} rows", ("", "torch", kind), rows_of(found))
        _refuse_different(found, quantize, tolerance)
        _finish(unfinished, labeller, found, kind, tolerance)
        shutil.rmtree(output, ignore_errors=True)
        unfinished.rename(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    say(f"Exported to {output}; README.md there has code that runs it.")
    return found


def _check_asked(output: Path, tolerance: float, opset: int | None) -> None:
    if not tolerance >= 0:
        what = f"the tolerance is {tolerance}, and must be 0 or more"
        raise UserError(what, where="--tolerance", fix="give 0.01 for 1 %, for example.")
    if opset is not None and opset not in OPSETS:
        what = f"opset {opset} is not supported; {OPSETS[0]} to {OPSETS[-1]} are"
        raise UserError(what, where="--opset", fix="give one of these, or remove the flag.")
    if output.exists() and not (output / FILE).is_file() and (not output.is_dir() or any(output.iterdir())):
        what = "the path exists and is not an earlier export"
        raise UserError(what, where=f"--output {output}", fix="choose a new folder.")


def _read_config(run: Path) -> Config:
    """Return the configuration of a finished run with held-out rows; refuse any other folder."""
    for name in ("config.yaml", "predictions.parquet", "model/config.json"):
        if not (run / name).is_file():
            what = f"there is no {name}; the export needs a finished run and its evaluated rows"
            fix = "give the --output_dir of a finished run with validation or test rows."
            raise UserError(what, where=str(run), fix=fix)
    return parse(["--config", str(run / "config.yaml")])


def _build(
    folder: Path, run: Path, labeller: Labeller, judged: JudgedRows, quantize: str | None, opset: int | None
) -> None:
    """Write the ONNX file, and copy the files of ``model/`` that it needs."""
    model = labeller.model
    two = labeller.encode(judged.rows.select([0, len(judged.rows) - 1]))
    onnx_model.write_onnx(model, next(batches(labeller, two, 2)), folder / FILE, opset)
    if quantize:
        calibration = None
        if onnx_model.is_convolutional(model):
            some = judged.others.select(spaced(len(judged.others), MOST_CALIBRATED))
            calibration = batches(labeller, labeller.encode(some), 8)
        onnx_model.quantise(folder / FILE, calibration, large=onnx_model.is_large(model))
    for path in (run / "model").iterdir():
        if not path.name.endswith(_WEIGHTS) and path.name not in ("adapter_config.json", "README.md"):
            shutil.copy(path, folder)


def read_judged(run: Path, config: Config, task: Task) -> JudgedRows:
    """Read the evaluated rows of a run with their labels, from the data named in its configuration.

    Raises:
        UserError: the rows cannot be read, or are not those that the run was evaluated on.
    """
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
    others = audit_files(others, task.input.rows, "training split", config.data.on_bad(task.input.rows.cell.column))
    return JudgedRows(judged.select(chosen), splits.output.read_raw(known["logits"].tolist())[chosen], others)


def compare(labeller: Labeller, path: Path, judged: JudgedRows) -> Comparison:
    """Run the original model and an ONNX file on the evaluated rows, and return the comparison.

    Raises:
        UserError: onnxruntime cannot run the file, or the original's logits differ from those of the run.
    """
    model, output, exported = labeller.model, labeller.output, onnx_model.OnnxClassifier(path)
    rows = labeller.encode(judged.rows)
    raw = labeller.predict(rows, BATCH)
    before_arrays, known = output.arrays(raw), output.arrays(judged.raw)
    _refuse_other_model(before_arrays, known)
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
        largest_logit=_largest(before_arrays),
        largest_difference=max(_largest_difference(before_arrays, output.arrays(answers)), float(apart.abs().max())),
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
        batch = load_batch(rows, collate, np.arange(start, min(start + size, len(rows))))
        yield model_inputs(batch, torch.device("cpu"))


def time_pairs(model: Any, exported: Any, inputs: list[dict[str, torch.Tensor]]) -> tuple[float, float]:
    """Return the median milliseconds per row of both models, timed alternately so that a busy machine slows both."""
    warm = inputs[:3]
    with torch.inference_mode():
        seconds = [
            [timeit(partial(each, **batch), number=1) for each in (model, exported)] for batch in [*warm, *inputs]
        ]
    before, after = 1000 * np.median(seconds[len(warm) :], axis=0)
    return float(before), float(after)


def _largest(raw: Iterable[np.ndarray]) -> float:
    """Return the largest absolute value of raw outputs."""
    return float(np.max([np.abs(row).max() for row in raw]))


def _largest_difference(one: Iterable[np.ndarray], other: Iterable[np.ndarray]) -> float:
    return _largest(a - b for a, b in zip(one, other, strict=True))


def _refuse_other_model(raw: Sequence[np.ndarray], known: Sequence[np.ndarray]) -> None:
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


def _refuse_different(found: Comparison, quantize: str | None, tolerance: float) -> None:
    """Raise a ``UserError`` if a logit (float32) or the loss of the headline metric (int8) exceeds the tolerance."""
    share = found.lost if quantize else found.largest_difference / (found.largest_logit or 1.0)
    if share <= tolerance:  # false for NaN
        return
    if quantize:
        what = f"int8 loses {share:.2%} of {found.metric} ({found.torch[found.metric]:.4f} to {found.onnx[found.metric]:.4f})"
        fix = "export in float32 (without --quantize)"
    else:
        what = f"a logit of the exported model differs by {share:.2g} of the largest one"
        fix = "use another --opset"
    what += f", more than the tolerance of {tolerance:g}; nothing was exported"
    raise UserError(what, where=f"{found.rows} rows", fix=f"{fix}, or raise --tolerance.")


def _finish(folder: Path, labeller: Labeller, found: Comparison, kind: str, tolerance: float) -> None:
    """Write ``export.json``, ``README.md``, and a configuration without the code of an MLP head."""
    write_json(folder / "export.json", asdict(found) | {"tolerance": tolerance})
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if "mlp_head_on" in settings:
        own = getattr(transformers, settings["mlp_head_on"]).config_class.model_type
        settings = {key: value for key, value in settings.items() if key not in _OF_MLP_HEAD}
        write_json(path, settings | {"model_type": own})
    code = usage(labeller.task.input, labeller.output.ONNX_CODE, labeller.input_columns)
    table = markdown_table(("", "torch", kind), rows_of(found))
    compared = f"`model.onnx` was compared with the original on {found.rows} rows that it was not trained on."
    text = f"# {kind}\n\n{compared}\n\n{table}\n\n## Use\n\n```python\n{code}\n```\n"
    (folder / "README.md").write_text(text, encoding="utf-8")


def usage(input: Input, answers: str, columns: dict[str, Any] | None = None) -> str:
    """Return Python code that runs the files of an exported folder; ``answers`` prints predictions from ``logits``."""
    processor, imports, lines = input.onnx_code(columns or {})
    before = ["import numpy as np", "import onnxruntime", *imports, f"from transformers import AutoConfig, {processor}"]
    model = ["", 'folder = "."', "config = AutoConfig.from_pretrained(folder)", *lines]
    run = [
        'session = onnxruntime.InferenceSession(f"{folder}/model.onnx")',
        "names = [node.name for node in session.get_inputs()]",
        'logits = session.run(["logits"], {name: inputs[name] for name in names})[0]',
    ]
    return "\n".join([*before, *model, *run, answers])
