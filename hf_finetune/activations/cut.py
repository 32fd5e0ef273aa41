"""A model that is cut where its frozen stages end: their output is computed once, and the rest trains from it.

This works for any architecture, with the model's own forward pass. The outputs of the frozen modules are recorded once
on a few rows. In a replay these modules do not compute: the last one returns the cached tensor, those before it return
zeros of the right shape. Everything else in the forward pass (masks, positions, tables of later blocks) runs as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from hf_finetune.models import Stage, is_adapter, stage_lookup
from hf_finetune.models.stages import is_under, outermost

KEY = "activations"  # their name in a batch


class CannotCut(Exception):
    """The model cannot be cut there, because a replay would give other logits; the message says why."""


class _Reached(Exception):
    """Ends a forward pass at the boundary, and carries its output."""


@dataclass(frozen=True)
class _Shape:
    """Shape (without rows) and dtype of a tensor."""

    size: tuple[int, ...]
    dtype: torch.dtype


@dataclass
class Cut:
    """Where the frozen stages of a model end, and how to run the rest."""

    model: nn.Module  # without the ``peft`` wrapper
    boundary: str  # full name of the module whose output is cached
    shape: tuple[int, ...]  # of that output without the rows, on the rows that it was found with
    dtype: torch.dtype  # of that output
    per_token: bool = False  # whether its first dimension is the tokens of a text
    first_only: bool = False  # whether the rest of the model reads its first position only (a class token)
    channels_last: bool = False  # whether it is an image in channels-last memory order
    whole: _Shape | None = None  # an input of fixed size, such as an image; None for texts
    given: str = ""  # the name of that input
    outputs: dict[str, Any] = field(default_factory=dict)  # of the modules that are replaced, with shapes for tensors
    restored: torch.Tensor | None = None  # the boundary's output during a replay

    @property
    def cached_shape(self) -> tuple[int, ...]:
        """Shape of the cached tensor of a row, or of a token if ``tokens`` is true."""
        if self.first_only or self.tokens:
            return self.shape[1:]
        return (*self.shape[1:], self.shape[0]) if self.channels_last else self.shape

    @property
    def tokens(self) -> bool:
        """Whether one vector per token is cached."""
        return self.per_token and not self.first_only

    def compute(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Run the frozen stages only; return what is cached: (rows, *cached_shape), or (tokens of all rows, width)."""

        def stop(module: nn.Module, args: Any, output: Any) -> None:
            raise _Reached(_first_tensor(output, len(next(iter(batch.values())))))

        try:
            with self.model.get_submodule(self.boundary).register_forward_hook(stop):
                self.model(**batch)
            raise CannotCut(f"{self.boundary} did not run")
        except _Reached as reached:
            output: torch.Tensor = reached.args[0]
        if self.first_only:
            return output[:, 0]
        if self.tokens:
            return output[batch["attention_mask"].bool()]
        return output.permute(0, 2, 3, 1) if self.channels_last else output

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Let batches that have ``activations`` skip the frozen stages; other batches run through the whole model."""
        modules = {name: self.model.get_submodule(name) for name in self.outputs}
        before = {name: module.__dict__.get("forward") for name, module in modules.items()}
        for name, module in modules.items():
            module.forward = self._stand_in(name, module.forward)
        hook = self.model.register_forward_pre_hook(self._take, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            self.restored = None
            for name, module in modules.items():
                del module.forward  # that of the instance; the class keeps its own
                if before[name] is not None:
                    module.forward = before[name]

    def _take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before a forward pass, take the activations out of its arguments."""
        cached = kwargs.pop(KEY, None)
        self.restored = None if cached is None else self._restore(cached, kwargs.get("input_ids"))
        if self.restored is not None and self.whole is not None:  # a required argument that nothing reads
            kwargs[self.given] = _blank(self.whole, self.restored)
        return args, kwargs

    def _restore(self, cached: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
        """Return the boundary's output from what is cached, shape (rows, *shape); ``tokens`` are those of padded texts."""
        if self.first_only:
            size = tokens.shape[1] if self.per_token and tokens is not None else self.shape[0]
            whole = cached.new_zeros(len(cached), size, *self.shape[1:], dtype=self.dtype)
            whole[:, 0] = cached
            return whole
        return (cached.permute(0, 3, 1, 2) if self.channels_last else cached).to(self.dtype)

    def _stand_in(self, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return the forward method of a frozen module: from the cache if there are activations."""

        def forward_from_cache(*args: Any, **kwargs: Any) -> Any:
            restored, given = self.restored, False
            if restored is None:
                return forward(*args, **kwargs)

            def tensor_for(leaf: Any) -> Any:
                nonlocal given
                if not isinstance(leaf, _Shape):
                    return leaf
                if leaf.size != self.shape or (given and name == self.boundary):
                    return _blank(leaf, restored)
                given = True
                return restored

            return tree_map(tensor_for, self.outputs[name])

        return forward_from_cache


def frozen_depth(model: nn.Module, stages: list[Stage]) -> int:
    """Return the number of leading stages in which nothing trains, adapters included."""
    owner = stage_lookup(stages)
    return min(owner(name) for name, parameter in model.named_parameters() if parameter.requires_grad)


def find_cut(model: nn.Module, stages: list[Stage], depth: int, batches: list[dict[str, torch.Tensor]]) -> Cut:
    """Cut a model, possibly wrapped by ``peft``, after its first ``depth`` stages; check that a replay gives the same logits.

    ``batches`` are two batches of inputs without labels, with different numbers of rows and different lengths.

    Raises:
        CannotCut: the rest of the model needs more than the output of the frozen stages.
    """
    base: Any = model.get_base_model() if is_adapter(model) else model
    with evaluating(base):
        cut = _locate(base, stages, depth, batches[0])
        cut.first_only = _reads_first_only(cut, batches[0])
        _check(cut, batches[1])
        _refuse_padding(cut, batches)
    return cut


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, and restore the mode of every module afterwards."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _locate(base: nn.Module, stages: list[Stage], depth: int, batch: dict[str, torch.Tensor]) -> Cut:
    """Run the model once, and find the boundary: the last frozen module before the first one that trains."""
    rows = len(next(iter(batch.values())))
    frozen = [name for stage in stages[:depth] for name in outermost(stage.modules)]
    calls, late = _calls(base, frozen, batch)
    usable = [index for index, (name, output) in enumerate(calls) if name in frozen and _of_rows(output, rows)]
    if not usable:
        raise CannotCut("no frozen module has one output per row")
    calls = calls[: usable[-1] + 1]
    boundary, output = calls[-1]
    tensor = _first_tensor(output, rows)
    for name in {name for name, _ in calls} - set(frozen):
        # Dropout of a stage that trains, before the boundary.
        if any(getattr(module, "p", 0) for module in base.get_submodule(name).modules()):
            raise CannotCut(f"there is dropout among the frozen stages ({name})")
    tokens = batch.get("attention_mask")
    per_token = tokens is not None and tensor.ndim == 3 and tensor.shape[1] == tokens.shape[1]
    given = "" if tokens is not None else next(iter(batch))
    if not given and not per_token:
        raise CannotCut("the output of the frozen stages is not one vector per token")
    return Cut(
        base,
        boundary,
        tuple(tensor.shape[1:]),
        tensor.dtype,
        per_token=per_token,
        channels_last=tensor.ndim == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous(),
        whole=_shape_of(batch[given]) if given else None,
        given=given,
        outputs={name: tree_map(_shape_of, each) for name, each in calls if name not in late and _of_rows(each, rows)},
    )


def _calls(
    base: nn.Module, frozen: list[str], batch: dict[str, torch.Tensor]
) -> tuple[list[tuple[str, Any]], set[str]]:
    """Return (name, output) of each frozen or weightless module before the first that trains; and names called later."""
    calls: list[tuple[str, Any]] = []
    late: set[str] = set()
    begun: list[bool] = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, output: late.add(name) if begun else calls.append((name, output))

    empty = outermost(n for n, m in base.named_modules() if n and next(m.parameters(), None) is None)
    free = [name for name in empty if not is_under(name, frozen)]
    with ExitStack() as hooks, torch.no_grad():
        for name in (*frozen, *free):
            hooks.enter_context(base.get_submodule(name).register_forward_hook(note(name)))
        for module in base.modules():
            if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
                hooks.enter_context(module.register_forward_pre_hook(lambda module, args: begun.append(True)))
        base(**batch)
    return calls, late


def _reads_first_only(cut: Cut, batch: dict[str, torch.Tensor]) -> bool:
    """Return whether the logits depend on the first position of the boundary only, by their gradient."""
    if len(cut.shape) != 2 or cut.shape[0] == 1:
        return False
    leaf: list[torch.Tensor] = []

    def detach(module: nn.Module, args: Any, output: Any) -> Any:
        leaves, tree = tree_flatten(output)
        index = next(i for i, each in enumerate(leaves) if isinstance(each, torch.Tensor))
        leaves[index] = leaves[index].detach().requires_grad_()
        leaf.append(leaves[index])
        return tree_unflatten(leaves, tree)

    with cut.model.get_submodule(cut.boundary).register_forward_hook(detach), torch.enable_grad():
        logits = cut.model(**batch).logits.float()
        (slope,) = torch.autograd.grad(logits.square().sum(), leaf[-1], allow_unused=True)
    if slope is None or not slope.any():
        raise CannotCut("the logits do not depend on the output of the frozen stages")
    return not slope[:, 1:].any()


def _check(cut: Cut, batch: dict[str, torch.Tensor]) -> None:
    """Compare the logits of a replay with the model's, on other rows and lengths than the cut was found with."""
    with torch.no_grad():
        expected = cut.model(**batch).logits.float()
        cached = cut.compute(batch)
        if cut.tokens:
            cached = unflatten(cached, batch["attention_mask"])
        rest = {key: value for key, value in batch.items() if key != cut.given}
        try:
            with cut.replaying():
                found = cut.model(**rest, **{KEY: cached}).logits.float()
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CannotCut(f"the model cannot continue from {cut.boundary} ({error})".splitlines()[0]) from error
    if cut.tokens and expected.shape[:2] == batch["attention_mask"].shape:  # logits of padding mean nothing
        real = batch["attention_mask"].bool()
        found, expected = found[real], expected[real]
    if not _close(found, expected):
        raise CannotCut(f"continuing from {cut.boundary} changes the logits by {_difference(found, expected):.1e}")


def _refuse_padding(cut: Cut, batches: list[dict[str, torch.Tensor]]) -> None:
    """Refuse outputs that depend on the padding of a text, which differs between batches.

    Example: positions that are counted from the left, with padding on the left.
    """
    if cut.whole is not None:
        return
    batch = max(batches, key=lambda each: int((each["attention_mask"] == 0).sum(1).max()))
    row = int((batch["attention_mask"] == 0).sum(1).argmax())
    padded = {key: value[row : row + 1] for key, value in batch.items()}
    bare = {key: value[:, padded["attention_mask"][0].bool()] for key, value in padded.items()}
    with torch.no_grad():
        found, expected = (cut.compute(each).float() for each in (padded, bare))
    if not _close(found, expected):
        raise CannotCut(f"the output of {cut.boundary} depends on the padding of a text")


def unflatten(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the vectors of all tokens, (tokens of all rows, width), as a padded batch, (rows, tokens, width)."""
    whole = vectors.new_zeros(*mask.shape, vectors.shape[-1])
    whole[mask.bool()] = vectors
    return whole


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


def _close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    return _difference(found, expected) <= (3e-2 if autocast else 1e-4)


def tensors_of(output: Any) -> list[torch.Tensor]:
    """Return the tensors in the output of a module, however they are nested."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def _of_rows(output: Any, rows: int) -> bool:
    """Return whether the output has one value per row: it has tensors, and the first dimension of all is the rows."""
    tensors = tensors_of(output)
    return bool(tensors) and all(each.ndim > 0 and len(each) == rows for each in tensors)


def _first_tensor(output: Any, rows: int) -> torch.Tensor:
    return next(each for each in tensors_of(output) if len(each) == rows)


def _shape_of(leaf: Any) -> Any:
    """Return the shape of a tensor, and anything else unchanged."""
    return _Shape(tuple(leaf.shape[1:]), leaf.dtype) if isinstance(leaf, torch.Tensor) else leaf


def _blank(shape: _Shape, like: torch.Tensor) -> torch.Tensor:
    """Return zeros that share one element in memory."""
    return torch.zeros((), dtype=shape.dtype, device=like.device).expand(len(like), *shape.size)
