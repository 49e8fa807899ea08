"""Counts one of the many equal blocks of a transformer: each of the others needs what it needs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ModelMixin

from deployments.engine.trees import flatten, tensors_of, unflatten
from deployments.memory_plan.live_bytes import LiveBytes


@dataclass(frozen=True)
class _Like:
    """What is known of a tensor."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Repeated:
    """What a call needed at most while it ran, in bytes, and a description of what it gave.

    Attributes:
        size: Of tensors.
        full: The same with the workspaces of convolutions.
        result: The description.
    """

    size: int
    full: int
    result: Any


class Repeats:
    """What blocks needed and gave, by what they are and were given; the next one like it is not computed.

    Only blocks that give something and change nothing are left out: those of diffusers' models, not those of language
    models, which keep keys and values.

    Args:
        counter: Counts what the blocks need.
    """

    def __init__(self, counter: LiveBytes) -> None:
        self._counter = counter
        self._known: dict[Hashable, Repeated] = {}

    def forget(self) -> None:
        """Compute each kind of block again."""
        self._known.clear()

    def watch(self, module: torch.nn.Module) -> None:
        """Leave out the blocks of a module that are like those before them."""
        if not isinstance(module, ModelMixin):
            return
        for blocks in module.modules():
            if isinstance(blocks, torch.nn.ModuleList):
                for block in blocks:
                    block.forward = self._remembered(_kind_of(block), block.forward)

    def _remembered(self, kind: Hashable, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            given = [*tensors_of(args), *tensors_of(kwargs)]
            key = (kind, len(args), tuple(kwargs), *((tensor.shape, tensor.dtype) for tensor in given))
            known, counter = self._known.get(key), self._counter
            if known is not None:
                counter.note(counter.live + known.size, counter.live + known.full)
                return make_like(known.result)
            before, around = (counter.peak, counter.full), counter.live
            counter.reset()
            result = forward(*args, **kwargs)
            self._known[key] = Repeated(counter.peak - around, counter.full - around, describe(result))
            counter.note(*before)
            return result

        return call


def describe(tree: Any) -> Any:
    """A tree with the shapes of its tensors in their place, which keeps no memory."""
    return map_results(lambda tensor: _Like(tensor.shape, tensor.dtype, tensor.device), tree)


def map_results(function: Callable[[torch.Tensor], Any], tree: Any) -> Any:
    """A tree with ``function(tensor)`` in place of each tensor, and without what else may keep tensors.

    That is a language model's cache of keys and values, which no pipeline reads.
    """
    leaves, structure = flatten(tree)
    return unflatten((function(leaf) if isinstance(leaf, torch.Tensor) else _plain(leaf) for leaf in leaves), structure)


def make_like(description: Any) -> Any:
    """A tree of tensors, of zeros where they have values, such as was described."""
    leaves, structure = flatten(description)
    return unflatten(map(_made, leaves), structure)


def _plain(leaf: Any) -> Any:
    return leaf if isinstance(leaf, (bool, int, float, str)) else None


def _made(leaf: Any) -> Any:
    return torch.zeros(leaf.shape, dtype=leaf.dtype, device=leaf.device) if isinstance(leaf, _Like) else leaf


def _kind_of(block: torch.nn.Module) -> Hashable:
    return (type(block), *((name, tensor.shape) for name, tensor in block.named_parameters()))
