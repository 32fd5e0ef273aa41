"""A model as an ordered list of stages: embeddings or stem, the blocks, the head.

Freezing, learning rates, adapters and the cost estimate all use this list; only this file knows how the modules of a
checkpoint are named. timm models define how their layers are grouped (``group_matcher``). In ``transformers`` models the
blocks are the children of the largest of the outermost ``ModuleList`` and ``Sequential`` containers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from hf_finetune.errors import UserError

Assign = Callable[[str], int]


@dataclass(frozen=True)
class Stage:
    """One step of a model's forward pass; modules and parameters have their full names."""

    name: str  # ``embeddings`` or ``stem``, ``block1`` (``stage1``, ``layer1``), …, ``head``
    modules: tuple[str, ...]  # all whose parts all belong to the stage, containers included
    parameters: tuple[str, ...]


def read_stages(model: nn.Module) -> list[Stage]:
    """Return the stages of a classification model in the order of the forward pass; a ``UserError`` if no blocks are found."""
    assign, names = _timm_assignment(model) if hasattr(model, "timm_model") else _transformers_assignment(model)
    parameters: dict[int, list[str]] = defaultdict(list)
    for name, _ in model.named_parameters():
        parameters[assign(name)].append(name)
    modules = _whole_modules(model, assign)
    used = [i for i in range(len(names)) if parameters[i] or modules[i]]
    return [Stage(names[i], tuple(modules[i]), tuple(parameters[i])) for i in used]


def find_stage(stages: list[Stage], wanted: str) -> int:
    """Return the index of the stage that a user named, by its name or as layer, stage or block N."""
    name = re.sub(r"[\s._-]", "", wanted).lower()
    names = [stage.name for stage in stages]
    if name in names:
        return names.index(name)
    numbered = re.fullmatch(r"(?:layer|stage|block)s?(\d+)", name)
    for index, own in enumerate(names):
        if numbered and re.fullmatch(r"[a-z]+" + numbered.group(1), own):
            return index
    raise UserError(
        f"there is no stage {wanted!r}; the stages are {', '.join(names)}",
        where="--strategy",
        fix="use one of these names.",
    )


def trunk_depth(stages: list[Stage], blocks: int) -> int:
    """Return the number of leading stages that contain the embeddings or stem and the first ``blocks`` blocks."""
    first = 0 if re.search(r"\d$", stages[0].name) else 1
    most = len(stages) - 1 - first
    if not 0 <= blocks <= most:
        raise UserError(
            f"the backbone has {most} blocks, not {blocks}", where="--strategy", fix=f"give a depth of 0 to {most}."
        )
    return first + blocks


def _whole_modules(model: nn.Module, assign: Assign) -> dict[int, list[str]]:
    """Return the modules whose leaves all belong to one stage; containers too, as attention reads its ``training`` flag."""
    inside: dict[str, set[int]] = defaultdict(set)
    for name, module in model.named_modules():
        if next(module.children(), None) is None and name:
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                inside[".".join(parts[:end])].add(assign(name))
    whole: dict[int, list[str]] = defaultdict(list)
    for name, stages in inside.items():
        if len(stages) == 1:
            whole[stages.pop()].append(name)
    return whole


def _timm_assignment(model: nn.Module) -> tuple[Assign, list[str]]:
    """Return the stages as timm groups the layers; layers without a group belong to the last block or the head."""
    from timm.models._manipulate import group_with_matcher

    backbone = model.timm_model
    if not hasattr(backbone, "group_matcher"):
        return _transformers_assignment(model)
    classifier = backbone.get_classifier()
    heads = tuple(n for n, m in backbone.named_modules() if any(m is h for h in _listed(classifier)))
    names = {n for n, _ in (*backbone.named_parameters(), *backbone.named_modules(), *backbone.named_buffers()) if n}
    trunk = [name for name in names if not is_under(name, heads)]
    matcher = backbone.group_matcher(coarse=True)
    if isinstance(matcher, dict):  # a group is a pattern, or a list of tuples that begin with one; or None
        specs = [spec for group in matcher.values() if group for spec in _listed(group)]
        patterns = [spec if isinstance(spec, str) else spec[0] for spec in specs]
        trunk = [name for name in trunk if any(re.match(pattern, name) for pattern in patterns)]
    groups = group_with_matcher([(name, None) for name in trunk], matcher, reverse=True)
    order = sorted({groups[name] for name, _ in backbone.named_parameters() if name in groups})
    rank = {group: index for index, group in enumerate(order)}
    last = len(order) - 1

    def assign(name: str) -> int:
        local = name.removeprefix("timm_model.")
        if is_under(local, heads):
            return last + 1
        if local in groups:
            return rank.get(groups[local], 0)
        return last if local in names else 0

    stem = [name for name, _ in backbone.named_parameters() if groups.get(name) == order[0]]
    blocks = [next(n for n, _ in backbone.named_parameters() if groups.get(n) == group) for group in order[1:]]
    return assign, [_first_name(stem), *(_block_name(n, i + 1) for i, n in enumerate(blocks)), "head"]


def _listed(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


def _transformers_assignment(model: nn.Module) -> tuple[Assign, list[str]]:
    """Return the stages: embeddings, the children of the trunk, and the head (all outside the backbone, and the pooler)."""
    base_name = _backbone_name(model)
    base = model.get_submodule(base_name)
    trunk = _find_trunk(base)
    order = {name: position for position, (name, _) in enumerate(base.named_modules())}
    blocks = [name for name, _ in base.get_submodule(trunk).named_children()]
    embeddings = {name for name, module in base.named_modules() if isinstance(module, nn.Embedding)}
    # DeBERTa-v2 normalises its table of relative positions by a LayerNorm in the same module.
    holders = {name.rpartition(".")[0] for name in embeddings if order[name] > order[trunk]}
    norms = {name for name, module in base.named_modules() if isinstance(module, nn.LayerNorm)}
    after_tables = {name for name in norms if name.rpartition(".")[0] in holders - {""}}
    last = len(blocks)

    def assign(name: str) -> int:
        if not is_under(name, (base_name,)):
            return last + 1
        local = name.removeprefix(base_name).removeprefix(".")
        if is_under(local, (trunk,)):
            index = local.removeprefix(trunk + ".").split(".")[0]
            return blocks.index(index) + 1 if index in blocks else 0
        if _is_pooler(base, local):
            return last + 1
        owner = local if local in order else local.rpartition(".")[0]
        # DeBERTa-v2 registers the table of positions, which every block reads, after the blocks.
        if owner in embeddings or order.get(owner, 0) < order[trunk] or owner in after_tables:
            return 0
        return last

    first = [name for name, _ in base.named_parameters() if assign(f"{base_name}.{name}") == 0]
    container = trunk.rpartition(".")[2]
    return assign, [_first_name(first), *(_block_name(f"{container}.{i}", i + 1) for i in range(last)), "head"]


def _backbone_name(model: nn.Module) -> str:
    prefix = getattr(model, "base_model_prefix", "")
    children = dict(model.named_children())
    if prefix in children:
        return prefix
    return max(children, key=lambda name: sum(p.numel() for p in children[name].parameters()))


def _find_trunk(base: nn.Module) -> str:
    """Return the full name of the outermost container with most weights, embedding tables not counted."""
    embeddings = {id(m.weight) for m in base.modules() if isinstance(m, nn.Embedding)}
    weights: dict[str, int] = {}
    for name, module in base.named_modules():
        if name and isinstance(module, (nn.ModuleList, nn.Sequential)) and not is_under(name, weights):
            weights[name] = sum(p.numel() for p in module.parameters() if id(p) not in embeddings)
    if not any(weights.values()):
        raise UserError(
            f"no sequence of blocks was found in {type(base).__name__}",
            where="--model_name_or_path",
            fix="choose another checkpoint, or report this one as an issue.",
        )
    return max(weights, key=weights.__getitem__)


def _is_pooler(base: nn.Module, local: str) -> bool:
    """Return whether a module belongs to a pooler with a linear layer, which trains as part of the head."""
    top = local.split(".")[0]
    return "pooler" in top and any(isinstance(m, nn.Linear) for m in getattr(base, top).modules())


def _first_name(names: list[str]) -> str:
    return "embeddings" if any(re.search(r"embeddings|patch_embed|pos_embed|tok_embed", n) for n in names) else "stem"


def _block_name(parameter: str, number: int) -> str:
    """Return ``layer1`` for ``layer1.0.conv1.weight``, ``stage1`` for ``stages.0``, ``block1`` for everything else."""
    first = parameter.split(".")[0]
    if re.fullmatch(r"layer\d+", first):
        return first
    return f"stage{number}" if re.fullmatch(r"stages|s\d+", first) else f"block{number}"


def outermost(names: Iterable[str]) -> list[str]:
    """Return the modules that are not inside another one of them, which comes before its own."""
    found: list[str] = []
    for name in names:
        if not is_under(name, found):
            found.append(name)
    return found


def is_under(name: str, roots: Collection[str]) -> bool:
    """Return whether a module or parameter is one of the roots or inside one."""
    return any(name == root or name.startswith(root + ".") for root in roots)
