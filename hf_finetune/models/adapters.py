"""LoRA (arXiv 2106.09685) through peft: adapters on the backbone; the head is trained in full and saved with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hf_finetune.config.options import StrategyConfig
from hf_finetune.errors import UserError
from hf_finetune.models.checkpoint import Checkpoint
from hf_finetune.models.stages import Stage, is_under, outermost

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_fsdp_wrapped_module|_orig_mod|module)\.")


def add_lora(checkpoint: Checkpoint, config: StrategyConfig) -> Checkpoint:
    """Wrap the model with ``peft``: the backbone is frozen, its layers get LoRA matrices, the head stays trainable.

    An adapter that could not be loaded without this package is refused.
    """
    from peft import LoraConfig, get_peft_model

    model = checkpoint.model
    if getattr(model.config, "mlp_head_on", None) and not config.merge_adapter:
        raise UserError(
            "an adapter cannot be saved with an MLP head",
            where="--head_hidden_size",
            fix="add --merge_adapter, or remove --head_hidden_size.",
        )
    head = checkpoint.stages[-1]
    kept = [name for name in outermost(head.modules) if any(is_under(p, (name,)) for p in head.parameters)]
    targets = lora_targets(model, checkpoint.stages, config.lora_target_modules)
    # Weights of the backbone that differ from those of the checkpoint would be other ones when the adapter is loaded.
    owners = {name.rpartition(".")[0] for name in checkpoint.fresh if name not in head.parameters}
    fresh = [name for name in sorted(owners) if name and not any(is_under(target, (name,)) for target in targets)]
    settings = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        modules_to_save=[*kept, *outermost(fresh)],
    )
    # No task type: its PeftModel hides the argument `labels`, and the Trainer then reports no evaluation loss.
    checkpoint.model = get_peft_model(model, settings)
    convolutions = [m for m in model.modules() if isinstance(getattr(m, "base_layer", None), nn.Conv2d)]
    if convolutions and not config.merge_adapter and not _runs(model):
        raise UserError(
            "the model reads attributes of its convolutions that peft hides, so the adapter could not be loaded on its own",
            where="--strategy lora",
            fix="add --merge_adapter.",
        )
    for module in convolutions:  # MobileNet's padding reads these off the layer that peft wraps
        for name in ("stride", "kernel_size", "dilation", "padding"):
            setattr(module, name, getattr(module.base_layer, name))
    return checkpoint


def _runs(model: nn.Module) -> bool:
    """Return whether the forward pass works with wrapped convolutions."""
    try:
        with torch.no_grad():
            model.eval()(pixel_values=torch.zeros(1, getattr(model.config, "num_channels", 3), 64, 64))
    except AttributeError:
        return False
    except (RuntimeError, ValueError, AssertionError):
        pass  # the model wants another image size, which has nothing to do with peft
    return True


def lora_targets(model: nn.Module, stages: list[Stage], wanted: list[str] | None) -> list[str]:
    """Return the full names of the backbone layers that get LoRA; the last stage, the head, gets none.

    ``wanted`` are endings of names (``query value``), or one regular expression that matches full names. By default, and
    for ``all-linear``: all linear layers, or, where there are none, all convolutions without groups. What matches nothing
    is refused.
    """
    backbone = {name for stage in stages[:-1] for name in stage.modules}
    named = {name: module for name, module in model.named_modules() if name in backbone}
    linear = [name for name, module in named.items() if isinstance(module, nn.Linear)]
    convolutions = [n for n, m in named.items() if isinstance(m, nn.Conv2d) and m.groups == 1]
    if not wanted or wanted == ["all-linear"]:
        return linear or convolutions
    fitting = linear + convolutions
    found = {ending: {name for name in fitting if f".{name}".endswith(f".{ending}")} for ending in wanted}
    if len(wanted) == 1 and not found[wanted[0]]:
        try:
            found = {wanted[0]: {name for name in fitting if re.fullmatch(wanted[0], name)}}
        except re.error as error:
            raise UserError(
                f"the regular expression is invalid ({error})",
                where="--lora_target_modules",
                fix="correct it, or give the names of layers.",
            ) from error
    wrong = [ending for ending, names in found.items() if not names]
    if wrong:
        endings = sorted({name.rpartition(".")[2] for name in fitting})
        raise UserError(
            f"no layer of the backbone is named {' or '.join(wrong)}; the names are {', '.join(endings[:20])}",
            where="--lora_target_modules",
            fix="use one of these names, or remove the flag.",
        )
    return [name for name in fitting if name in set().union(*found.values())]


def is_adapter(model: Any) -> bool:
    """Return whether ``peft`` wraps the model."""
    return hasattr(model, "peft_config") and hasattr(model, "merge_and_unload")


def plain_name(parameter: str) -> str:
    """Return a parameter's name without what peft added: ``base_model.model.a.base_layer.weight`` → ``a.weight``."""
    name = parameter.removeprefix("base_model.model.")
    name = re.sub(r"\.(base_layer|original_module|modules_to_save\.[^.]+)(?=\.|$)", "", name)
    return re.sub(r"\.lora_[A-Za-z_]+\.[^.]+", "", name)


def stage_lookup(stages: list[Stage]) -> Callable[[str], int]:
    """Return a function from the name of a parameter (also as DDP, FSDP, compile and peft name it) to its stage's index."""
    index_of = {name: index for index, stage in enumerate(stages) for name in stage.parameters}

    def lookup(name: str) -> int:
        plain = plain_name(name if name in index_of else _WRAPPERS.sub("", name))
        if plain in index_of:
            return index_of[plain]
        # The name of a LoRA matrix begins with the name of its layer.
        return next(index for known, index in index_of.items() if known.startswith(plain + "."))

    return lookup
