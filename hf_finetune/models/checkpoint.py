"""Load a checkpoint under a head for the user's labels, and load models that were fine-tuned and saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn

from hf_finetune.config.options import ModelConfig
from hf_finetune.console import say, without_bars
from hf_finetune.errors import UserError, first_line
from hf_finetune.models import mlp_head
from hf_finetune.models.stages import Stage, read_stages

# What the libraries raise for files that are truncated, or are not weights.
_UNREADABLE = (
    OSError, ValueError, ImportError, KeyError, IndexError, EOFError, UnpicklingError, SafetensorError, StrictDataclassError,
)  # fmt: skip


@dataclass
class Checkpoint:
    """A model that is ready to be fine-tuned: in float32, with a head for the labels."""

    model: Any  # the classifier, or the ``peft`` model around it
    processor: Any  # the checkpoint's tokenizer or image processor
    stages: list[Stage]  # read before adapters are added
    name: str  # as the user gave it
    fresh: list[str] = field(default_factory=list)  # parameters that are not as in the checkpoint


def load_checkpoint(
    config: ModelConfig, auto_class: str, labels: list[str], processor: Any, output: dict[str, Any] | None = None
) -> Checkpoint:
    """Load a checkpoint's weights under a classification head for ``labels``, in the order of their ids.

    ``auto_class`` is the class of transformers that has the head, such as ``AutoModelForImageClassification``. ``output``
    is what the configuration says of the kind of label: ``problem_type``. A checkpoint that does not exist, has no weights,
    or has no model for the task is refused.
    """
    name = str(config.model_name_or_path)
    settings = load_settings(config)
    own_labels = _set_labels(settings, labels, output or {})
    _refuse_without_weights(name)
    factory: Any = getattr(transformers, auto_class)
    options: dict[str, Any] = {"ignore_mismatched_sizes": True, "output_loading_info": True}
    if config.head_hidden_size:
        settings, factory = _with_mlp_head(settings, factory, config.head_hidden_size, name)
    else:
        options["trust_remote_code"] = config.trust_remote_code
    try:
        with _quietly():
            # Half-precision checkpoints train in float32 with autocast: fp16 gradients cannot be unscaled.
            model, info = factory.from_pretrained(
                name, config=settings, dtype=torch.float32, revision=config.model_revision, **options
            )
    except (*_UNREADABLE, RuntimeError) as error:
        _refuse_code(error, name)
        if "Unrecognized configuration class" in str(error):
            raise _wrong_kind(settings, auto_class, name) from error
        raise UserError(
            f"the checkpoint cannot be loaded ({first_line(error)})",
            where=f"--model_name_or_path {name}",
            fix="check that the folder or repository has a complete transformers or timm checkpoint.",
        ) from error
    model.config.architectures = [type(model).__name__]  # else this names the class of the pretraining
    stages = read_stages(model)
    fresh = _renew_head(model, stages, info, own_labels, labels)
    _fix_batch_norm_momentum(model)
    pad = getattr(processor, "pad_token_id", None)
    if pad is not None and getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = pad
    return Checkpoint(model, processor, stages, name, fresh)


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the loading report and progress bar of transformers; we print what is new in one line."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with without_bars(logging):
            yield
    finally:
        logging.set_verbosity(level)


def load_settings(config: ModelConfig) -> transformers.PreTrainedConfig:
    """Load the configuration of a checkpoint; a ``UserError`` if neither transformers nor timm finds or knows it."""
    name = str(config.model_name_or_path)
    _refuse_broken_settings(name)
    try:
        factory = _mlp_head_class(name, 0) or transformers.AutoConfig
        settings = factory.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
    except StrictDataclassError as error:
        raise UserError(
            f"config.json is invalid ({error})", where=f"--model_name_or_path {name}", fix="correct the value."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        _refuse_code(error, name)
        raise UserError(
            f"no checkpoint was found under this name ({first_line(error)})",
            where=f"--model_name_or_path {name}",
            fix="check the name and the network; for a private or gated model run 'hf auth login'.",
        ) from error
    if getattr(settings, "model_args", None):
        # timm also writes the number of classes here; TimmWrapper would pass it twice, and fail.
        settings.model_args = {k: v for k, v in settings.model_args.items() if k != "num_classes"}
    return settings


def load_preprocessing(auto_class: str, kind: str, name: str, fix: str, **options: Any) -> Any:
    """Return the ``kind`` of preprocessing (``tokenizer``) of a checkpoint; a ``UserError`` with ``fix`` if there is none."""
    try:
        return getattr(transformers, auto_class).from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        _refuse_code(error, name)
        raise UserError(
            f"no {kind} can be loaded ({first_line(error)})", where=f"--model_name_or_path {name}", fix=fix
        ) from error


def _set_labels(settings: transformers.PreTrainedConfig, labels: list[str], output: dict[str, Any]) -> list[str]:
    """Set the labels and their kind; return the labels of the checkpoint's head, none if they are of another kind."""
    same_kind = all(getattr(settings, name, None) in (None, value) for name, value in output.items())
    own = list((getattr(settings, "id2label", None) or {}).values()) if same_kind else []
    settings.num_labels = len(labels)
    settings.id2label = dict(enumerate(labels))
    settings.label2id = {label: index for index, label in enumerate(labels)}
    for name, value in output.items():
        setattr(settings, name, value)
    if hasattr(settings, "thresholds"):  # those of the run that made the checkpoint
        del settings.thresholds
    return own


def _with_mlp_head(
    settings: transformers.PreTrainedConfig, factory: Any, hidden_size: int, name: str
) -> tuple[transformers.PreTrainedConfig, Any]:
    """Return the configuration and the class of the same model with an MLP head."""
    base_name = getattr(settings, "mlp_head_on", None)
    if base_name is None:
        if type(settings) not in factory._model_mapping:
            raise _wrong_kind(settings, factory.__name__, name)
        base = factory._model_mapping[type(settings)]
        base_name = base[0].__name__ if isinstance(base, tuple) else base.__name__
    config_class, model_class = mlp_head.classes_on(base_name)
    labels = {"id2label": settings.id2label, "label2id": settings.label2id}
    values = {name: value for name, value in settings.to_dict().items() if name != "model_type"}
    deep = config_class.from_dict(values | labels, num_labels=settings.num_labels, **labels)
    deep.head_hidden_size = hidden_size
    deep.mlp_head_on = base_name
    deep.auto_map = {
        "AutoConfig": f"{mlp_head.MODULE_NAME}.MlpHeadConfig",
        factory.__name__: f"{mlp_head.MODULE_NAME}.MlpHeadModel",
    }
    say(f"The head is an MLP with {hidden_size} hidden units; the saved model loads with trust_remote_code=True.")
    return deep, model_class


def _renew_head(
    model: transformers.PreTrainedModel, stages: list[Stage], info: dict[str, Any], own: list[str], labels: list[str]
) -> list[str]:
    """Reinitialise a head that was trained for other labels; print and return the names of all new weights."""
    # Entries of mismatched_keys are names, or tuples that begin with them.
    mismatched = {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    fresh = set(info["missing_keys"]) | mismatched
    head = stages[-1]
    if not fresh & set(head.parameters) and own != labels:
        for name in head.modules:
            module = model.get_submodule(name)
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        fresh |= set(head.parameters)
    if fresh:
        resized = f" (another size in the checkpoint: {', '.join(sorted(mismatched))})" if mismatched else ""
        say(f"New head for {len(labels)} labels: {', '.join(sorted(fresh & set(head.parameters)))}{resized}.")
    else:
        say(f"The checkpoint's head is kept, because it was trained for the same {len(labels)} labels.")
    backbone = sorted(fresh.intersection(name for stage in stages[:-1] for name in stage.parameters))
    if backbone:
        say(
            f"Warning: {len(backbone)} weights of the backbone are not in the checkpoint and are initialised at random: "
            f"{', '.join(backbone[:5])}."
        )
    return sorted(fresh)


def _fix_batch_norm_momentum(model: nn.Module) -> None:
    """Set the momentum of BatchNorm to 0.1 where a port kept TensorFlow's value.

    MobileNetV1 and V2 have 0.9997 and 0.997, which weighs the *old* running statistics in TensorFlow, the *new* in torch.
    """
    wrong = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and (m.momentum or 0) > 0.5]
    for module in wrong:
        module.momentum = 0.1
    if wrong:
        say(f"BatchNorm: the momentum of {len(wrong)} layers is set to 0.1; the model class had TensorFlow's value.")


def _wrong_kind(settings: transformers.PreTrainedConfig, auto_class: str, name: str) -> UserError:
    return UserError(
        f"a {settings.model_type!r} checkpoint cannot be used with {auto_class}",
        where=f"--model_name_or_path {name}",
        fix="choose a checkpoint of a type that transformers has in this class, or use the recipe of another task.",
    )


def _refuse_without_weights(name: str) -> None:
    """Raise a ``UserError`` if a local folder has no file of weights."""
    folder = Path(name)
    if folder.is_dir() and not any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir()):
        raise UserError(
            "the folder has no weights (model.safetensors)",
            where=f"--model_name_or_path {name}",
            fix="give a folder that save_pretrained wrote, or copy the weights into it.",
        )


def _refuse_broken_settings(name: str) -> None:
    """Raise a ``UserError`` if a local folder has no ``config.json``, or if a JSON file of settings is not an object."""
    folder = Path(name)
    if not folder.is_dir():
        return
    if not (folder / "config.json").exists():
        files = sorted(path.name for path in folder.iterdir())[:8]
        raise UserError(
            f"the folder has no config.json; it contains {', '.join(files) or 'nothing'}",
            where=f"--model_name_or_path {name}",
            fix="give a folder that save_pretrained wrote.",
        )
    for file in [folder / "tokenizer.json", *sorted(folder.glob("*config.json"))]:
        wrong = _fault(file) if file.is_file() else ""
        if wrong:
            raise UserError(wrong, where=str(file), fix="download or copy it again.")


def _fault(file: Path) -> str:
    """Return why a file is not a JSON object; of ``tokenizer.json``, which may be large, only the start is read."""
    if file.name == "tokenizer.json":
        with file.open("rb") as opened:
            start = opened.read(200).lstrip()
        return "" if start.startswith(b"{") else f"expected a JSON object, found {start[:20]!r}"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"the file is not valid JSON ({first_line(error)})"
    return "" if isinstance(content, dict) else f"expected a JSON object, found a {type(content).__name__}"


def _refuse_code(error: Exception, name: str) -> None:
    """Raise a ``UserError`` if transformers stopped because the repository contains Python code."""
    if "trust_remote_code" in str(error):
        raise UserError(
            "the checkpoint contains Python code, which does not run without your consent",
            where=f"--model_name_or_path {name}",
            fix="read the code, and add --trust_remote_code if you trust it.",
        ) from error


def save_mlp_head_code(model: transformers.PreTrainedModel, folder: Path) -> None:
    """Write the Python module with which an MLP head loads without this package; do nothing for other models."""
    base_name = getattr(model.config, "mlp_head_on", None)
    if base_name:
        (folder / f"{mlp_head.MODULE_NAME}.py").write_text(mlp_head_code(base_name), encoding="utf-8")


def mlp_head_code(base_name: str) -> str:
    """Return the source of the module that puts an MLP head on ``transformers.<base_name>``."""
    source = Path(mlp_head.__file__).read_text(encoding="utf-8")
    return source + f'\n\nMlpHeadConfig, MlpHeadModel = classes_on("{base_name}")\n'


def load_artifact(
    folder: str | Path, auto_class: str, *, trust_remote_code: bool = False
) -> transformers.PreTrainedModel:
    """Load a fine-tuned model, from a folder or the Hub, in float32 and evaluation mode; an adapter on its base checkpoint."""
    if Path(folder, "adapter_config.json").exists():
        return _load_adapter(Path(folder), auto_class)
    own = _mlp_head_class(folder, 1)
    factory: Any = own or getattr(transformers, auto_class)
    options = {} if own else {"trust_remote_code": trust_remote_code}
    try:
        with _quietly():
            model = factory.from_pretrained(str(folder), dtype=torch.float32, **options)
    except _UNREADABLE as error:
        raise UserError(
            f"the model cannot be loaded ({first_line(error)})",
            where=str(folder),
            fix="give a run folder, a model folder or a Hub id.",
        ) from error
    return model.eval()


def rescale_head(model: nn.Module, mean: list[float], std: list[float]) -> None:
    """Fold ``number * std + mean`` into the head, so that it predicts in the units of the labels; it needs a bias."""
    last = logit_layer(model, len(mean))
    if last is None or last.bias is None:
        raise UserError(
            "the head does not end in a linear layer with a bias, so it cannot be rescaled to the labels' units",
            where="--problem_type regression",
            fix="choose another checkpoint, or standardise the labels (mean 0, variance 1) yourself.",
        )
    scale, shift = (torch.tensor(x, dtype=last.weight.dtype, device=last.weight.device) for x in (std, mean))
    with torch.no_grad():
        last.weight.mul_(scale.view(-1, *[1] * (last.weight.ndim - 1)))
        last.bias.mul_(scale).add_(shift)


def set_head_bias(model: nn.Module, values: np.ndarray) -> None:
    """Set the bias of the logit layer, shape (labels,); do nothing where it has none."""
    last = logit_layer(model, len(values))
    if last is not None and last.bias is not None:
        with torch.no_grad():
            last.bias.copy_(torch.as_tensor(values, dtype=last.bias.dtype))


def logit_layer(model: nn.Module, width: int) -> Any:
    """Return the layer that computes the logits: the last linear one of this width, or None."""
    ends = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m.weight.shape[0] == width]
    return ends[-1] if ends else None


def load_weights(model: transformers.PreTrainedModel, folder: str | Path) -> None:
    """Load the weights that ``save_pretrained`` wrote into a model of the same class.

    transformers 5 saves some models (ViT) under older parameter names, which only ``from_pretrained`` understands.
    """
    with _quietly():
        stored, info = type(model).from_pretrained(
            folder, config=model.config, dtype=torch.float32, output_loading_info=True
        )
    if info["missing_keys"]:
        raise RuntimeError(f"{folder} lacks {len(info['missing_keys'])} weights: {sorted(info['missing_keys'])[:3]}")
    model.load_state_dict(stored.state_dict())


def _mlp_head_class(folder: str | Path, which: int) -> Any:
    """Return our configuration class (0) or model class (1) for a saved MLP head, so that no remote code has to run."""
    path = Path(folder, "config.json")
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    base_name = content.get("mlp_head_on") if isinstance(content, dict) else None
    return mlp_head.classes_on(base_name)[which] if base_name else None


def _load_adapter(folder: Path, auto_class: str) -> transformers.PreTrainedModel:
    from peft import PeftModel

    base_name = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    settings = load_settings(ModelConfig(model_name_or_path=str(folder)))
    try:
        with _quietly():
            base = getattr(transformers, auto_class).from_pretrained(
                base_name, config=settings, dtype=torch.float32, ignore_mismatched_sizes=True
            )
    except (OSError, ValueError) as error:
        raise UserError(
            f"the adapter's base checkpoint {base_name!r} cannot be loaded ({first_line(error)})",
            where=str(folder),
            fix="restore the base checkpoint, or train again with --merge_adapter.",
        ) from error
    return PeftModel.from_pretrained(base, str(folder)).eval()
