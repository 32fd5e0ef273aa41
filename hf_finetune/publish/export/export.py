"""Export the model of a run as ONNX, and compare its logits with the original's."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hf_finetune.config import Config, parse
from hf_finetune.console import say, show_table
from hf_finetune.data.splits.splits import spaced
from hf_finetune.errors import UserError
from hf_finetune.evaluation.prediction.labeller import Labeller, load_labeller
from hf_finetune.files import write_json
from hf_finetune.models import is_adapter
from hf_finetune.publish.card import markdown_table
from hf_finetune.publish.export.comparison import (
    Comparison,
    JudgedRows,
    batches,
    compare,
    read_judged,
    rows_of,
)
from hf_finetune.publish.export.onnx_model import (
    FILE,
    OPSETS,
    is_convolutional,
    is_large,
    quantise,
    require_extra,
    write_onnx,
)
from hf_finetune.tasks.task import Input

# Largest difference of a logit, as a share of the largest logit; and share of the headline metric that int8 may lose.
TOLERANCES = {None: 1e-3, "int8": 0.01}
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
    require_extra()
    output = output or run / ("onnx-int8" if quantize else "onnx")
    kind = f"ONNX {quantize or 'float32'}"
    tolerance = TOLERANCES[quantize] if tolerance is None else tolerance
    _check_asked(output, tolerance, opset)
    from accelerate import PartialState

    PartialState(cpu=True)  # the exported model is for CPUs, so both models are compared there
    config = _read_config(run)
    labeller = load_labeller(str(run), trust_remote_code=config.model.trust_remote_code)
    judged = read_judged(run, config, labeller.task)
    if is_adapter(labeller.model):
        labeller = replace(labeller, model=labeller.model.merge_and_unload())
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _build(partial, run, labeller, judged, quantize, opset)
        found = compare(labeller, partial / FILE, judged)
        show_table(f"Compared on {found.rows} rows", ("", "torch", kind), rows_of(found))
        _refuse_different(found, quantize, tolerance)
        _finish(partial, labeller, found, kind, tolerance)
        shutil.rmtree(output, ignore_errors=True)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
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
    write_onnx(model, next(batches(labeller, two, 2)), folder / FILE, opset)
    if quantize:
        calibration = None
        if is_convolutional(model):
            some = judged.others.select(spaced(len(judged.others), MOST_CALIBRATED))
            calibration = batches(labeller, labeller.encode(some), 8)
        quantise(folder / FILE, calibration, large=is_large(model))
    for path in (run / "model").iterdir():
        if not path.name.endswith(_WEIGHTS) and path.name not in ("adapter_config.json", "README.md"):
            shutil.copy(path, folder)


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
        import transformers

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
