"""A model cut in two where its frozen stages end: the first part is computed once, the rest trains from what it gave.

Nothing here knows an architecture, and the forward pass stays the model's own. The frozen modules are watched once on
a few rows. In a replay they hand on what was kept instead of computing it: the last one the kept tensor, those before
it anything of the right shape. Whatever else the forward pass does (masks, positions, tables that later blocks read)
is done as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from hf_finetune.models import Stage, is_adapter, stage_lookup

KEY = "activations"  # what a batch calls them
_PIXELS = "pixel_values"


class CannotCut(Exception):
    """The model computes something across the boundary that a replay would not repeat; the message says what."""


class _Reached(Exception):
    """Carries the boundary's output out of a forward pass whose rest is not needed."""

    def __init__(self, kept: torch.Tensor) -> None:
        super().__init__()
        self.kept = kept


@dataclass(frozen=True)
class _Output:
    """What a module gave: its tree, with shapes (without rows) and dtypes in the place of tensors."""

    leaves: tuple[Any, ...]
    tree: TreeSpec


@dataclass(frozen=True)
class _Shape:
    size: tuple[int, ...]
    dtype: torch.dtype


@dataclass
class Cut:
    """Where the frozen stages of a model end, and how to go on from there.

    Args:
        model: the model itself, without the wrapper of adapters.
        boundary: dotted name of the module whose output is kept.
        shape: of that output on the probe, without the rows.
        dtype: of that output.
        per_token: whether its first dimension runs over the tokens of a text, one a token.
        first_only: whether the rest reads nothing but its first position (a class token).
        channels_last: whether it is an image in that memory order.
        pixels: shape and dtype of an image; None for texts.
    """

    model: nn.Module
    boundary: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    per_token: bool = False
    first_only: bool = False
    channels_last: bool = False
    pixels: _Shape | None = None
    outputs: dict[str, _Output] = field(default_factory=dict)

    @property
    def cached_shape(self) -> tuple[int, ...]:
        """Shape of what is kept of a row, or of a token of it where ``tokens`` is true."""
        if self.first_only or self.tokens:
            return self.shape[1:]
        return (*self.shape[1:], self.shape[0]) if self.channels_last else self.shape

    @property
    def tokens(self) -> bool:
        """Whether a row keeps as many vectors as it has tokens."""
        return self.per_token and not self.first_only

    def capture(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Run the frozen part: shape (rows, *shape) or (rows, tokens, width); the rest of the model does not run."""

        def stop(module: nn.Module, args: Any, output: Any) -> None:
            raise _Reached(_first_tensor(output, len(next(iter(batch.values())))))

        hook = self.model.get_submodule(self.boundary).register_forward_hook(stop)
        try:
            self.model(**batch)
        except _Reached as reached:
            return reached.kept
        finally:
            hook.remove()
        raise CannotCut(f"{self.boundary} did not run")

    def compact(self, output: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """What of an output is kept: (rows, *cached_shape), or (tokens of all rows, width)."""
        if self.first_only:
            return output[:, 0]
        if self.tokens:
            assert mask is not None
            return output[mask.bool()]
        return output.permute(0, 2, 3, 1) if self.channels_last else output

    def restore(self, kept: torch.Tensor, length: int) -> torch.Tensor:
        """The boundary's output again: (rows, *shape); ``length`` is the number of tokens of a padded text."""
        if self.first_only:
            size = length if self.per_token else self.shape[0]
            whole = kept.new_zeros(len(kept), size, *self.shape[1:], dtype=self.dtype)
            whole[:, 0] = kept
            return whole
        return (kept.permute(0, 3, 1, 2) if self.channels_last else kept).to(self.dtype)

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Within: batches with ``activations`` go through the rest of the model only; others through all of it."""
        modules = {name: self.model.get_submodule(name) for name in self.outputs}
        before = {name: module.__dict__.get("forward") for name, module in modules.items()}
        replay = _Replay(self)
        for name, module in modules.items():
            module.forward = replay.stand_in(name, module.forward)
        hook = self.model.register_forward_pre_hook(replay.take, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            for name, module in modules.items():
                del module.forward  # an attribute of the instance: the class has its own
                if before[name] is not None:
                    module.forward = before[name]


class _Replay:
    """The tensor that a running forward pass goes on from."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self.kept: torch.Tensor | None = None

    def take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before a forward pass: take the activations out of its arguments."""
        kept = kwargs.pop(KEY, None)
        if kept is None:
            self.kept = None
            return args, kwargs
        length = kwargs["input_ids"].shape[1] if self.cut.pixels is None else 0
        self.kept = self.cut.restore(kept, length)
        if self.cut.pixels is not None:  # asked for, and looked at by nobody
            kwargs[_PIXELS] = _blank(self.cut.pixels, self.kept)
        return args, kwargs

    def stand_in(self, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        output = self.cut.outputs[name]
        shape = tuple(self.cut.shape)
        last = name == self.cut.boundary

        def hand_on(*args: Any, **kwargs: Any) -> Any:
            kept = self.kept
            if kept is None:
                return forward(*args, **kwargs)
            leaves, given = [], False
            for leaf in output.leaves:
                if isinstance(leaf, _Shape):
                    fits = leaf.size == shape and not (last and given)
                    given = given or fits
                    leaf = kept if fits else _blank(leaf, kept)
                leaves.append(leaf)
            return tree_unflatten(leaves, output.tree)

        return hand_on


def frozen_depth(model: nn.Module, stages: list[Stage]) -> int:
    """Number of leading stages in which nothing trains, adapters included."""
    owner = stage_lookup(stages)
    return min(owner(name) for name, parameter in model.named_parameters() if parameter.requires_grad)


def find_cut(model: nn.Module, stages: list[Stage], depth: int, batches: list[dict[str, torch.Tensor]]) -> Cut:
    """Cut a model behind its first ``depth`` stages, and check that a replay gives the model's own logits.

    Args:
        model: on its device; ``peft`` may be around it. It is left in the mode that it was in.
        stages: its stages.
        depth: number of frozen stages.
        batches: two batches of inputs without labels, of different numbers of rows, and of different lengths.

    Raises:
        CannotCut: it is no chain at that point.
    """
    base: Any = model.get_base_model() if is_adapter(model) else model
    modes = {module: module.training for module in base.modules()}
    for module in modes:
        module.training = False
    try:
        cut = _watch(base, stages, depth, batches[0])
        cut.first_only = _reads_first_only(cut, batches[0])
        _check(cut, batches[1])
        _refuse_padding(cut, batches)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return cut


def _watch(base: nn.Module, stages: list[Stage], depth: int, batch: dict[str, torch.Tensor]) -> Cut:
    """Run the model once, and note what its modules give before the first that trains."""
    rows = len(next(iter(batch.values())))
    frozen = [name for stage in stages[:depth] for name in _outermost(stage.modules)]
    calls, late = _calls(base, frozen, batch)
    ours = [index for index, (name, output) in enumerate(calls) if name in frozen and _of_rows(output, rows)]
    if not ours:
        raise CannotCut("no frozen module gives one value a row")
    calls = calls[: ours[-1] + 1]
    boundary, output = calls[-1]
    tensor = _first_tensor(output, rows)
    _refuse_dropout(base, {name for name, _ in calls} - set(frozen))
    tokens = batch.get("attention_mask")
    per_token = tokens is not None and tensor.ndim == 3 and tensor.shape[1] == tokens.shape[1]
    if _PIXELS not in batch and not per_token:
        raise CannotCut("what the frozen stages give does not run over the tokens")
    pixels = batch.get(_PIXELS)
    return Cut(
        base,
        boundary,
        tuple(tensor.shape[1:]),
        tensor.dtype,
        per_token=per_token,
        channels_last=_in_channels_last(tensor),
        pixels=None if pixels is None else _Shape(tuple(pixels.shape[1:]), pixels.dtype),
        outputs={n: _describe(given) for n, given in calls if n not in late and _of_rows(given, rows)},
    )


def _calls(
    base: nn.Module, frozen: list[str], batch: dict[str, torch.Tensor]
) -> tuple[list[tuple[str, Any]], set[str]]:
    """Calls of the frozen modules, and of those without weights, before the first weight that trains; names seen later."""
    calls: list[tuple[str, Any]] = []
    late: set[str] = set()
    begun: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, output: late.add(name) if begun else calls.append((name, output))

    def begin(name: str) -> Callable[..., None]:
        return lambda module, args: begun.append(name)

    empty = _outermost(tuple(n for n, m in base.named_modules() if n and next(m.parameters(), None) is None))
    free = [name for name in empty if not any(name == root or name.startswith(root + ".") for root in frozen)]
    hooks = [base.get_submodule(name).register_forward_hook(note(name)) for name in (*frozen, *free)]
    for name, module in base.named_modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            hooks.append(module.register_forward_pre_hook(begin(name)))
    try:
        with torch.no_grad():
            base(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, late


def _refuse_dropout(base: nn.Module, names: set[str]) -> None:
    """Dropout that belongs to a stage that trains, but drops what the frozen stages read."""
    for name in names:
        if any(getattr(module, "p", 0) for module in base.get_submodule(name).modules()):
            raise CannotCut(f"there is dropout among the frozen stages ({name})")


def _reads_first_only(cut: Cut, batch: dict[str, torch.Tensor]) -> bool:
    """Whether the logits depend on the first position of the boundary alone; their gradient tells."""
    if len(cut.shape) != 2 or cut.shape[0] == 1:
        return False
    leaf: list[torch.Tensor] = []

    def detach(module: nn.Module, args: Any, output: Any) -> Any:
        leaves, tree = tree_flatten(output)
        index = next(i for i, each in enumerate(leaves) if isinstance(each, torch.Tensor))
        leaves[index] = leaves[index].detach().requires_grad_()
        leaf.append(leaves[index])
        return tree_unflatten(leaves, tree)

    hook = cut.model.get_submodule(cut.boundary).register_forward_hook(detach)
    try:
        with torch.enable_grad():
            logits = cut.model(**batch).logits.float()
            (slope,) = torch.autograd.grad(logits.square().sum(), leaf[-1], allow_unused=True)
    finally:
        hook.remove()
    if slope is None or not slope.any():
        raise CannotCut("the logits do not depend on what the frozen stages give")
    return not slope[:, 1:].any()


def _check(cut: Cut, batch: dict[str, torch.Tensor]) -> None:
    """Compare the logits of a replay with the model's own, on rows and lengths that the cut was not made from."""
    mask = batch.get("attention_mask")
    with torch.no_grad():
        expected = cut.model(**batch).logits.float()
        kept = cut.compact(cut.capture(batch), mask)
        if cut.tokens:
            kept = unflatten(kept, mask)
        rest = {key: value for key, value in batch.items() if key != _PIXELS}
        try:
            with cut.replaying():
                found = cut.model(**rest, **{KEY: kept}).logits.float()
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CannotCut(f"it does not go on from {cut.boundary} ({error})".splitlines()[0]) from error
    off = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    if not off <= (3e-2 if _autocast() else 1e-4):
        raise CannotCut(f"going on from {cut.boundary} changes the logits by {float(off):.1e}")


def _refuse_padding(cut: Cut, batches: list[dict[str, torch.Tensor]]) -> None:
    """Refuse vectors of a text that depend on its padding: they are kept from one batch, and read in another.

    Positions that are counted from the left do so where texts are padded on the left.
    """
    if cut.pixels is not None:
        return
    batch = max(batches, key=lambda each: int((each["attention_mask"] == 0).sum(1).max()))
    row = int((batch["attention_mask"] == 0).sum(1).argmax())
    padded = {key: value[row : row + 1] for key, value in batch.items()}
    mask = padded["attention_mask"][0].bool()
    bare = {key: value[:, mask] for key, value in padded.items()}
    with torch.no_grad():
        found, expected = (cut.compact(cut.capture(each), each["attention_mask"]).float() for each in (padded, bare))
    off = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    if not off <= (3e-2 if _autocast() else 1e-4):
        raise CannotCut(f"what {cut.boundary} gives depends on the padding of a text")


def unflatten(kept: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Vectors of all tokens, (tokens of all rows, width), as a padded batch, (rows, tokens, width)."""
    assert mask is not None
    whole = kept.new_zeros(*mask.shape, kept.shape[-1])
    whole[mask.bool()] = kept
    return whole


def _autocast() -> bool:
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


def _outermost(names: tuple[str, ...]) -> list[str]:
    """Those of the modules that are in no other of them."""
    found: list[str] = []
    for name in sorted(names, key=lambda each: each.count(".")):
        if not any(name.startswith(outer + ".") for outer in found):
            found.append(name)
    return found


def _of_rows(output: Any, rows: int) -> bool:
    tensors = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, torch.Tensor)]
    return bool(tensors) and all(each.ndim > 0 and len(each) == rows for each in tensors)


def _describe(output: Any) -> _Output:
    leaves, tree = tree_flatten(output)
    plain = [_Shape(tuple(x.shape[1:]), x.dtype) if isinstance(x, torch.Tensor) else x for x in leaves]
    return _Output(tuple(plain), tree)


def _first_tensor(output: Any, rows: int) -> torch.Tensor:
    return next(x for x in tree_flatten(output)[0] if isinstance(x, torch.Tensor) and len(x) == rows)


def _in_channels_last(tensor: torch.Tensor) -> bool:
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()


def _blank(shape: _Shape, like: torch.Tensor) -> torch.Tensor:
    """Zeros that take no memory."""
    return torch.zeros((), dtype=shape.dtype, device=like.device).expand(len(like), *shape.size)
