"""Export the model of a run as ONNX, and compare its logits with the original's."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_finetune.console import say
from hf_finetune.data.splits.splits import spaced
from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.labeller import load_labeller, task_of
from hf_finetune.files import write_json
from hf_finetune.models import is_adapter, merge
from hf_finetune.publish.export.comparison import Comparison, batches, compare, show_comparison
from hf_finetune.publish.export.judged_rows import JudgedRows, read_config, read_judged
from hf_finetune.publish.export.onnx_model import (
    FILE,
    OPSETS,
    is_convolutional,
    is_large,
    quantise_all,
    quantise_weights,
    require_extra,
    write_onnx,
)
from hf_finetune.publish.export.onnx_readme import onnx_readme, usage
from hf_finetune.tasks.task import Task

# Largest difference of a logit, as a share of the largest logit; and share of the headline metric that int8 may lose.
TOLERANCES = {None: 1e-3, "int8": 0.01}
MOST_ROWS = 2000  # rows to compare
MOST_CALIBRATED = 128  # rows to measure the ranges of int8 activations

# Files of model/ that an exported model does not need.
_WEIGHTS = (".safetensors", ".bin", ".py", ".index.json")
_OF_MLP_HEAD = ("auto_map", "mlp_head_on", "head_hidden_size")


def export_run(
    run: Path,
    output: Path | None = None,
    *,
    quantize: str | None = None,
    tolerance: float | None = None,
    opset: int | None = None,
    dataset: Any = None,
) -> Comparison:
    """Export a run's model as ONNX with all files that it needs, if it agrees with torch on the evaluated rows.

    Args:
        run: the run folder.
        output: the new folder; by default ``onnx`` or ``onnx-int8`` in the run folder. An earlier export is replaced.
        quantize: ``"int8"``, or None for float32.
        tolerance: see :data:`TOLERANCES`; None for the default.
        opset: version of ONNX operators; None for the exporter's default.
        dataset: the ``DatasetDict`` of a run that was started from Python.

    Raises:
        UserError: a package is missing, the run is not finished, its rows cannot be read, the model cannot be exported, or
            the exported model differs. No files are left then.
    """
    require_extra()
    output = output or run / ("onnx-int8" if quantize else "onnx")
    kind = f"ONNX {quantize or 'float32'}"
    tolerance = TOLERANCES[quantize] if tolerance is None else tolerance
    _check_asked(output, tolerance, opset)
    from accelerate import PartialState

    PartialState(cpu=True)  # the exported model is for CPUs, so both models are compared there
    config = read_config(run)
    trust = config.model.trust_remote_code
    task, _ = task_of(str(run), trust_remote_code=trust)
    judged = read_judged(run, config, task, MOST_ROWS, dataset)
    labeller = load_labeller(str(run), trust_remote_code=trust)
    processor, model = labeller.processor, labeller.model
    model = merge(model) if is_adapter(model) else model
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _build(partial, run, model, task, processor, judged, quantize, opset)
        found = compare(model, partial / FILE, task, processor, judged)
        show_comparison(found, kind)
        _refuse_different(found, quantize, tolerance)
        _finish(partial, model, task, found, kind, tolerance)
        shutil.rmtree(output, ignore_errors=True)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"Exported to {output}; README.md there has code that runs it.")
    return found


def _check_asked(output: Path, tolerance: float, opset: int | None) -> None:
    if not tolerance >= 0:
        raise UserError(
            f"the tolerance is {tolerance}, and must be 0 or more",
            where="--tolerance",
            fix="give 0.01 for 1 %, for example.",
        )
    if opset is not None and opset not in OPSETS:
        raise UserError(
            f"opset {opset} is not supported; {OPSETS[0]} to {OPSETS[-1]} are",
            where="--opset",
            fix="give one of these, or remove the flag.",
        )
    if output.exists() and not (output / FILE).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(
            "the path exists and is not an earlier export", where=f"--output {output}", fix="choose a new folder."
        )


def _build(
    folder: Path,
    run: Path,
    model: Any,
    task: Task,
    processor: Any,
    judged: JudgedRows,
    quantize: str | None,
    opset: int | None,
) -> None:
    """Write the ONNX file, and copy the files of ``model/`` that it needs."""
    two = task.input.encode(judged.rows.select([0, len(judged.rows) - 1]), processor)
    write_onnx(model, next(batches(task, processor, two, 2)), folder / FILE, opset)
    if quantize and not is_convolutional(model):
        quantise_weights(folder / FILE, large=is_large(model))
    elif quantize:
        seen = task.input.encode(judged.others.select(spaced(len(judged.others), MOST_CALIBRATED)), processor)
        quantise_all(folder / FILE, batches(task, processor, seen, 8), large=is_large(model))
    for path in (run / "model").iterdir():
        if not path.name.endswith(_WEIGHTS) and path.name not in ("adapter_config.json", "README.md"):
            shutil.copy(path, folder)


def _finish(folder: Path, model: Any, task: Task, found: Comparison, kind: str, tolerance: float) -> None:
    """Write ``export.json``, ``README.md``, and a configuration without the code of an MLP head."""
    write_json(folder / "export.json", asdict(found) | {"tolerance": tolerance})
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if "mlp_head_on" in settings:
        import transformers

        own = getattr(transformers, settings["mlp_head_on"]).config_class.model_type
        settings = {key: value for key, value in settings.items() if key not in _OF_MLP_HEAD}
        write_json(path, settings | {"model_type": own})
    columns = getattr(model.config, "input_columns", None)
    code = usage(task.input, task.outputs.of_model(model.config).ONNX_CODE, columns)
    (folder / "README.md").write_text(onnx_readme(found, kind, code), encoding="utf-8")


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
    raise UserError(
        f"{what}, more than the tolerance of {tolerance:g}; nothing was exported",
        where=f"{found.rows} rows",
        fix=f"{fix}, or raise --tolerance.",
    )
