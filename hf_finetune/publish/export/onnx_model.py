"""A torch classifier as an ONNX file, in float32 or with int8 weights, and that file as a classifier again."""

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
OPSETS = range(18, 25)  # what torch has translations for, and what its converter reaches from there
# A file of protobuf holds 2 GB: the weights of larger models stand in a second file beside it.
EXTERNAL_FROM = 1_900_000_000


def require_extra() -> None:
    """Refuse where the packages are missing that ``[export]`` installs.

    Raises:
        UserError: one of them is.
    """
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            where="hf-finetune export",
            fix="run pip install 'hf-finetune[export]'.",
        )


class _Logits(nn.Module):
    """The model with one output."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**inputs).logits
        return logits


def write_onnx(model: Any, batch: dict[str, torch.Tensor], path: Path, opset: int | None = None) -> None:
    """Write a model by torch's exporter (``torch.export``); it reads batches of any size, and texts of any length.

    Args:
        model: a classifier of transformers, in evaluation mode.
        batch: its inputs, at least two rows: tables of tokens, shape (rows, tokens), or images.
        path: the file.
        opset: version of ONNX' operators; None for the exporter's choice.

    Raises:
        UserError: the exporter does not know how to write this model.
    """
    axes = {name: {0: "batch", 1: "sequence"} if values.ndim == 2 else {0: "batch"} for name, values in batch.items()}
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")  # some models call torch's fused attention in shapes that cannot be exported
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
            fix="use the model with PyTorch, or train another backbone.",
        ) from error
    finally:
        model.set_attn_implementation(attention)


def is_large(model: nn.Module) -> bool:
    """Whether the weights do not fit in one file."""
    return sum(p.numel() * p.element_size() for p in model.parameters()) > EXTERNAL_FROM


def is_convolutional(model: nn.Module) -> bool:
    """Whether more weights are in convolutions than in matrix products."""
    weights = {
        kind: sum(module.weight.numel() for module in model.modules() if isinstance(module, kind))
        for kind in (nn.Conv2d, nn.Linear)
    }
    return weights[nn.Conv2d] > weights[nn.Linear]


def quantise_weights(path: Path, *, large: bool) -> None:
    """Make the weights of matrix products int8, in place; what they multiply is quantised when the model runs (*dynamically*).

    Each output channel has a scale of its own.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared = _prepare(path, large=large)
    with _quietly():
        quantize_dynamic(prepared, path, per_channel=True, weight_type=QuantType.QInt8, use_external_data_format=large)
    _remove(prepared)


def quantise_all(path: Path, batches: Iterable[dict[str, torch.Tensor]], *, large: bool) -> None:
    """Make weights and activations int8, in place, with scales that are measured on batches beforehand (*statically*).

    Each output channel has a scale of its own; those of activations span what the batches showed.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Batches(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.rest, None)
            return batch and {name: values.numpy() for name, values in batch.items()}

    prepared = _prepare(path, large=large)
    with _quietly():
        quantize_static(
            prepared,
            path,
            Batches(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            use_external_data_format=large,
        )
    _remove(prepared)


def _prepare(path: Path, *, large: bool) -> Path:
    """The graph with the shapes filled in and BatchNorm folded into the convolutions, in a file beside it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_name("prepared.onnx")
    with _quietly():
        # The symbolic inference is for models whose shapes ONNX' own does not find, and knows fewer operators.
        quant_pre_process(path, prepared, skip_symbolic_shape=True, save_as_external_data=large)
    _remove(path)
    return prepared


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):  # the weights of large models stand in a second file
        file.unlink()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter and the quantiser say to those who write operators."""
    names = ("onnxscript", "torch.onnx", "torch.export", "onnx_ir", "root")
    loggers = [logging.getLogger(None if name == "root" else name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class OnnxClassifier(nn.Module):
    """An ONNX file that is called as a classifier of transformers is: tensors by name in, ``.logits`` out.

    Args:
        path: the file.

    Raises:
        UserError: onnxruntime cannot read it, or not in this version of the operators.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, NotImplemented

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that spin while they wait steal the cores of torch's, which is timed side by side.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except (Fail, InvalidGraph, NotImplemented) as error:
            raise UserError(
                f"onnxruntime cannot run the exported model ({first_line(error)})",
                where=path.name,
                fix="leave --opset and --quantize out, or take a newer onnxruntime.",
            ) from error

    def forward(self, **inputs: torch.Tensor) -> SimpleNamespace:
        """Logits of shape (rows, labels)."""
        values = {node.name: inputs[node.name].cpu().numpy() for node in self.session.get_inputs()}
        return SimpleNamespace(logits=torch.from_numpy(self.session.run(["logits"], values)[0]))
