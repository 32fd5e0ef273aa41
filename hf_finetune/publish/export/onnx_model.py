"""Export a torch classifier as an ONNX file, in float32 or int8, and run that file as a classifier."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from hf_finetune.errors import UserError, first_line

FILE = "model.onnx"
OPSETS = range(18, 25)  # what torch and its converter support
# A protobuf file is limited to 2 GB; larger models have their weights in a second file.
EXTERNAL_FROM = 1_900_000_000


def require_extra() -> None:
    """Raise a ``UserError`` if a package is missing that ``hf-finetune[export]`` installs."""
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        what = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        raise UserError(what, where="hf-finetune export", fix="run pip install 'hf-finetune[export]'.")


class _Logits(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**inputs).logits
        return logits


def write_onnx(model: Any, batch: dict[str, torch.Tensor], path: Path, opset: int | None = None) -> None:
    """Export a classifier with ``torch.export``, for batches of any size and texts of any length.

    ``batch`` has example inputs of at least two rows: tokens of shape (rows, tokens), or images.

    Raises:
        UserError: the exporter does not support the model.
    """
    axes = {name: {0: "batch", 1: "sequence"} if values.ndim == 2 else {0: "batch"} for name, values in batch.items()}
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")  # some models call fused attention with shapes that cannot be exported
    try:
        with _quietly():
            torch.onnx.export(
                _Logits(model).eval(),
                kwargs=batch,
                f=path,
                input_names=list(batch),
                output_names=["logits"],
                dynamic_shapes={"inputs": axes},
                opset_version=opset,
                external_data=is_large(model),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(
            f"torch's exporter cannot write a {model.config.model_type!r} model ({first_line(error)})",
            where="--format onnx",
            fix="use the model with PyTorch, or choose another backbone.",
        ) from error
    finally:
        model.set_attn_implementation(attention)


def is_large(model: nn.Module) -> bool:
    """Return whether the weights do not fit into one file."""
    return sum(p.numel() * p.element_size() for p in model.parameters()) > EXTERNAL_FROM


def is_convolutional(model: nn.Module) -> bool:
    """Return whether convolutions have more weights than linear layers."""

    def weights(kind: type[nn.Module]) -> int:
        return sum(module.weight.numel() for module in model.modules() if isinstance(module, kind))

    return weights(nn.Conv2d) > weights(nn.Linear)


def quantise(path: Path, calibration: Iterable[dict[str, torch.Tensor]] | None, *, large: bool) -> None:
    """Quantise a model to int8, in place; each output channel of weights has its own scale.

    With batches for calibration, activations are quantised *statically*, with scales that cover their range in the batches.
    Without, only matrix products are quantised, and their activations *dynamically*, when the model runs.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(calibration or [])

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.rest, None)
            return batch and {name: values.numpy() for name, values in batch.items()}

    prepared = path.with_name("prepared.onnx")
    int8 = quantization.QuantType.QInt8
    options: dict[str, Any] = {"per_channel": True, "weight_type": int8, "use_external_data_format": large}
    with _quietly():
        # Infers shapes, and folds BatchNorm into convolutions. Symbolic inference supports fewer operators.
        quant_pre_process(path, prepared, skip_symbolic_shape=True, save_as_external_data=large)
        _remove(path)
        if calibration is None:
            quantization.quantize_dynamic(prepared, path, **options)
        else:
            options |= {"quant_format": quantization.QuantFormat.QDQ, "activation_type": quantization.QuantType.QUInt8}
            quantization.quantize_static(prepared, path, Batches(), **options)
    _remove(prepared)


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):  # large models have a second file
        file.unlink()


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the logs and warnings of the exporter and the quantiser, which are for authors of operators."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


class OnnxClassifier(nn.Module):
    """An ONNX file with the call of a transformers classifier: named tensors in, ``.logits`` out.

    Raises:
        UserError: onnxruntime cannot run the file, for example because of its version of operators.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, NotImplemented

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Spinning threads would slow torch down, whose time is measured alternately.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except (Fail, InvalidGraph, NotImplemented) as error:
            raise UserError(
                f"onnxruntime cannot run the exported model ({first_line(error)})",
                where=path.name,
                fix="remove --opset and --quantize, or install a newer onnxruntime.",
            ) from error

    def forward(self, **inputs: torch.Tensor) -> SimpleNamespace:
        """Return logits of shape (rows, labels)."""
        values = {node.name: inputs[node.name].cpu().numpy() for node in self.session.get_inputs()}
        return SimpleNamespace(logits=torch.from_numpy(self.session.run(["logits"], values)[0]))
