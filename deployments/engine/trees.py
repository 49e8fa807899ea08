"""Arguments and results of modules as trees: tensors and other leaves inside tuples, lists, dicts and model outputs.

PyTorch has such trees too (``torch.utils._pytree``), but they are private to it, and take five times as long to flatten
and to compare: for every module call of every image, that is more than all the rest of the engine's work.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

import torch

Structure = Hashable
"""A tree without its leaves: for each node its type, the names of its entries if they have some, and its children."""


_LEAF_TYPES = frozenset({torch.Tensor, torch.nn.Parameter, type(None), bool, int, float, str, torch.dtype})


def _is_never_leaf(_: Any) -> bool:
    return False


def flatten(tree: Any, is_leaf: Callable[[Any], bool] = _is_never_leaf) -> tuple[list[Any], Structure]:
    """Take a tree apart.

    Args:
        tree: Mappings, tuples and lists are its nodes. Everything else is a leaf, None too.
        is_leaf: Says of a list whether it is a leaf too.

    Returns:
        The leaves in their order, and what is left of the tree without them.
    """
    leaves: list[Any] = []
    return leaves, _structure(tree, leaves, is_leaf)


def unflatten(leaves: Iterable[Any], structure: Structure) -> Any:
    """Put together what :func:`flatten` took apart."""
    return _tree(iter(leaves), structure)


def leaves_of(tree: Any) -> list[Any]:
    """The leaves of a tree, in their order."""
    return flatten(tree)[0]


def tensors_of(tree: Any) -> list[torch.Tensor]:
    """The tensors among a tree's leaves, in their order."""
    return [leaf for leaf in leaves_of(tree) if isinstance(leaf, torch.Tensor)]


def all_tensors_of(value: Any) -> list[torch.Tensor]:
    """The tensors of a tree, also those that its leaves keep as attributes, as a language model's cache does.

    Args:
        value: A tree, an object, or a tensor. Modules and what they hold are left out.
    """
    found: list[torch.Tensor] = []
    seen: set[int] = set()
    todo = [value]
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, torch.Tensor):
            found.append(each)
        elif isinstance(each, Mapping):
            todo += each.values()
        elif isinstance(each, tuple | list | set | frozenset):
            todo += each
        elif not isinstance(each, type | torch.nn.Module):
            todo += getattr(each, "__dict__", {}).values()
    return found


def map_tensors(function: Callable[[torch.Tensor], Any], tree: Any) -> Any:
    """A copy of a tree, with ``function(tensor)`` in place of each tensor and all other leaves as they are."""
    leaves, structure = flatten(tree)
    return unflatten([function(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], structure)


def leaf_pairs(one: Any, other: Any) -> list[tuple[Any, Any]] | None:
    """The leaves of two trees, place by place; None if the trees differ in their structure."""
    (mine, structure), (theirs, other_structure) = flatten(one), flatten(other)
    return list(zip(mine, theirs, strict=True)) if structure == other_structure else None


def _structure(tree: Any, leaves: list[Any], is_leaf: Callable[[Any], bool]) -> Structure:
    if type(tree) in _LEAF_TYPES:  # as nearly all are: this is for speed
        leaves.append(tree)
        return None
    if isinstance(tree, tuple) or (isinstance(tree, list) and not is_leaf(tree)):
        return (type(tree), None, tuple([_structure(entry, leaves, is_leaf) for entry in tree]))
    if isinstance(tree, Mapping):
        return (type(tree), tuple(tree), tuple([_structure(entry, leaves, is_leaf) for entry in tree.values()]))
    leaves.append(tree)
    return None


def _tree(leaves: Iterator[Any], structure: Any) -> Any:
    if structure is None:
        return next(leaves)
    kind, names, children = structure
    entries = [_tree(leaves, child) for child in children]
    if names is not None:
        # The outputs of diffusers and transformers are made of keyword arguments.
        named = dict(zip(names, entries, strict=True))
        return named if kind is dict else kind(**named)
    return kind(*entries) if hasattr(kind, "_fields") else kind(entries)
