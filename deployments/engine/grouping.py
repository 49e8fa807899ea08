"""Decides which forward calls may run as one, joins them, and splits the result.

Nothing here knows a model: what has one entry per row is read from the shapes. That reading can be wrong by chance, so
a new kind of group is checked against its calls run alone before it is relied on (see ``checking.py``).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch

from deployments.engine.shared_tensors import SharedTensors
from deployments.engine.stages import module_of
from deployments.engine.step_cache import CachedPass
from deployments.engine.trees import Structure, all_tensors_of, flatten, leaves_of, unflatten
from deployments.pipelines.exceptions import UngroupableError

# Pipelines pass these as a Python number or a 0-d tensor, and the models take one value per row just as well.
_PER_ROW_NUMBERS = ("timestep", "sigma")
_PLAIN_TYPES = (bool, int, str, bytes, type(None), torch.dtype, torch.device)
_STATELESS_TYPES = (torch.Tensor, float, complex, *_PLAIN_TYPES)
_ROWS = object()  # in the place of a column
_shared_tensors = SharedTensors()

Rows = torch.Tensor | list[Any]


class _Function(NamedTuple):
    """A function's address in this process, its name, and the configuration of its module."""

    address: int
    name: str
    config: str


class Layout:
    """The form of a call, less its values. Equal layouts are the same object, so that they are quick to compare.

    Args:
        function: That is called.
        rows: The batch size.
        has_loras: Whether LoRAs are active.
        structure: The arguments as a tree, without its leaves.
        forms: The forms of the leaves.

    Attributes:
        name: The same for all calls of a module with rows of the same shapes, in each process.
    """

    def __init__(
        self, function: _Function, rows: int, has_loras: bool, structure: Structure, forms: tuple[_Form, ...]
    ) -> None:
        self._parts = (function.name, function.config, rows, has_loras, structure, forms)
        columns = ", ".join(_describe(form) for is_column, form in forms if is_column)
        self.name = f"{function.name}({columns}){' with LoRAs' if has_loras else ''}"

    def __repr__(self) -> str:
        """The same in each process for calls that compute the same."""
        return repr(self._parts)


_Form = tuple[bool, Hashable]
"""Whether a leaf has one entry per row, and what of it, less its values, must agree in the calls of a group."""


def _describe(form: Any) -> str:
    if not isinstance(form[0], torch.dtype):
        return "list"
    dtype, _, shape = form
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}"


_layout_of = lru_cache(maxsize=4096)(Layout)


@dataclass(frozen=True)
class Call:
    """One call of a shared module.

    Attributes:
        owner: The class name of the module that is called.
        target: The function to call.
        arguments: The arguments by name, as they came.
        structure: The arguments as a tree, without its leaves.
        leaves: The leaves of that tree, with a mark in place of each that has one entry per row.
        columns: The leaves that the marks stand for: tensors of shape (rows, ...), or lists of that length.
        rows: The batch size of this call.
        key: Calls with equal keys may run as one.
        layout: The key without the values: calls of equal layout differ in numbers only, so that what was proved with
            one group of them holds for the next.
        loras: Names and scales of the active LoRAs, besides those that are always on.
        cached: What the image keeps of earlier calls, if it has a step cache.
    """

    owner: str
    target: Callable[..., Any]
    arguments: dict[str, Any]
    structure: Structure
    leaves: list[Any]
    columns: list[Rows]
    rows: int
    key: Hashable
    layout: Layout
    loras: tuple[tuple[str, float], ...] = ()
    cached: CachedPass | None = None

    @property
    def has_plain_leaves(self) -> bool:
        """Whether all arguments are tensors, numbers, words and the like, and no objects with a state."""
        return all(leaf is _ROWS or isinstance(leaf, _STATELESS_TYPES) for leaf in self.leaves)

    def arguments_with(self, columns: Sequence[Rows]) -> dict[str, Any]:
        """The arguments with other columns in the place of the call's own."""
        column = iter(columns)
        leaves = [next(column) if leaf is _ROWS else leaf for leaf in self.leaves]
        arguments: dict[str, Any] = unflatten(leaves, self.structure)
        return arguments


def read_call(
    target: Callable[..., Any],
    owner: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    loras: tuple[tuple[str, float], ...] = (),
) -> Call:
    """Bind a call's arguments to their names and work out with which other calls it may run.

    Args:
        target: The function to call.
        owner: The class name of the module it belongs to.
        args: Positional arguments.
        kwargs: Keyword arguments.
        loras: Names and scales of LoRAs, in the order of their names.

    Raises:
        UngroupableError: If no argument has a batch dimension.
    """
    arguments = _bind(target, args, kwargs)
    sample, rows = _find_sample(arguments)
    per_row = {name: _per_row(name, value, sample, rows) for name, value in arguments.items()}
    leaves, structure = flatten(per_row, is_leaf=lambda value: isinstance(value, list) and len(value) == rows)
    columns: list[Rows] = []
    keys: list[Hashable] = [id(target), loras, structure]
    forms: list[_Form] = []
    for place, leaf in enumerate(leaves):
        is_column, form, key = _read_leaf(leaf, rows)
        keys.append(key)
        forms.append((is_column, form))
        if is_column:
            columns.append(leaf)
            leaves[place] = _ROWS
    layout = _layout_of(_function(target, owner), rows, bool(loras), structure, tuple(forms))
    return Call(owner, target, arguments, structure, leaves, columns, rows, tuple(keys), layout, loras)


def run_alone(call: Call) -> Any:
    """Run a call exactly as the pipeline made it."""
    return call.target(**call.arguments)


def run_together(calls: Sequence[Call], padded_rows: int | None = None) -> list[Any]:
    """Run calls of equal keys as one forward.

    Args:
        calls: At least one.
        padded_rows: The exact number of rows of the forward, at least those of the calls. The first row is repeated to
            fill it up, and the results of the repetitions are dropped.

    Returns:
        Each call's own result, in order.

    Raises:
        UngroupableError: If a part of the result cannot be split by rows.
    """
    if len(calls) == 1 and padded_rows is None:
        return [run_alone(calls[0])]
    rows = [call.rows for call in calls]
    padding = (padded_rows or sum(rows)) - sum(rows)
    columns = [_pad(_join(values), padding) for values in zip(*(call.columns for call in calls), strict=True)]
    return _part(_run(calls[0], columns), [*rows, padding] if padding else rows)[: len(calls)]


def _run(call: Call, columns: list[Rows]) -> Any:
    return call.target(**call.arguments_with(columns))


def _bind(target: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A call's arguments by name, in the order of the function's parameters, whatever the order of the call."""
    positional, order = _binding(target, len(args), tuple(kwargs))
    given = {**dict(zip(positional, args, strict=True)), **kwargs}
    return {name: given[name] for name in order}


@lru_cache(maxsize=1024)
def _binding(target: Callable[..., Any], args: int, names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of so many positional arguments, and all names in the order of the parameters."""
    bound = inspect.signature(target).bind(*range(args), **dict.fromkeys(names, args))
    positional, order = [""] * args, list[str]()
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            raise UngroupableError(f"{target} takes positional arguments without names.")
        if kind is inspect.Parameter.VAR_KEYWORD:
            order += value
            continue
        order.append(name)
        if value < args:
            positional[value] = name
    return tuple(positional), tuple(order)


@lru_cache(maxsize=1024)
def _function(target: Callable[..., Any], owner: str) -> _Function:
    config = str(getattr(module_of(target), "config", ""))
    return _Function(id(target), f"{owner}.{getattr(target, '__name__', 'call')}", config)


def _find_sample(arguments: Mapping[str, Any]) -> tuple[torch.Tensor, int]:
    """The first argument with a batch dimension is the sample, or the token ids: its length is the batch."""
    for value in arguments.values():
        if isinstance(value, torch.Tensor) and value.ndim > 1:
            return value, value.shape[0]
        leaves = leaves_of(value) if isinstance(value, list) else []
        if leaves and all(isinstance(leaf, torch.Tensor) for leaf in leaves):
            return leaves[0], len(value)
    raise UngroupableError("The call has no argument with a batch dimension.")


def _per_row(name: str, value: Any, sample: torch.Tensor, rows: int) -> Any:
    """One number for all rows as one number for each, where that is known to mean the same."""
    if isinstance(value, torch.Tensor):
        is_one = value.ndim == 0 or (value.numel() == 1 and _is_per_row(name))
        return value.reshape(1).expand(rows) if is_one else value
    if isinstance(value, int | float) and not isinstance(value, bool) and _is_per_row(name):
        # Filled on the device: a tensor made from a number is copied there, and the copy waits for the device.
        return torch.full((rows,), value, device=sample.device)
    return value


@lru_cache(maxsize=1024)
def _is_per_row(name: str) -> bool:
    return any(word in name for word in _PER_ROW_NUMBERS)


def _read_leaf(value: Any, rows: int) -> tuple[bool, Hashable, Hashable]:
    """Whether a leaf has one entry per row, its form, and what of it must agree in a group."""
    if isinstance(value, torch.Tensor):
        shape = value.shape
        if shape and shape[0] == rows:
            form: Hashable = (value.dtype, value.device, shape[1:])
            return True, form, form
        form = (value.dtype, value.device, shape)
        return False, form, (form, _shared_tensors.content_of(value))
    if isinstance(value, _PLAIN_TYPES):
        identity: Hashable = (type(value), value)
        return False, identity, identity
    if isinstance(value, list):
        kinds = tuple(dict.fromkeys(map(_entry_kind, value)))
        return True, kinds, kinds
    if isinstance(value, torch.Generator):
        # Most modules take one for the sake of a common signature; the check of a group finds those that draw from it.
        return False, torch.Generator, torch.Generator
    return False, type(value).__qualname__, _identity(value)


def _entry_kind(entry: Any) -> Hashable:
    """What must agree in the entries of two per-row lists; sequences in a list may differ in length."""
    leaves, structure = flatten(entry)
    return (structure, *map(_leaf_kind, leaves))


def _leaf_kind(leaf: Any) -> Hashable:
    if not isinstance(leaf, torch.Tensor):
        return _identity(leaf)
    shape = tuple(leaf.shape)
    return (leaf.dtype, leaf.device, leaf.ndim, shape[-1:] if leaf.ndim <= 2 else shape)


def _identity(value: Any) -> Hashable:
    return (type(value), value) if isinstance(value, Hashable) else id(value)


def _join(values: Sequence[Rows]) -> Rows:
    if isinstance(values[0], list):
        return [entry for value in values for entry in value]
    return torch.cat([value for value in values if isinstance(value, torch.Tensor)])


def _pad(rows: Rows, padding: int) -> Rows:
    if isinstance(rows, list):
        return rows + rows[:1] * padding
    return torch.cat([rows, rows[:1].expand(padding, *rows.shape[1:])]) if padding else rows


def _part(result: Any, rows: Sequence[int]) -> list[Any]:
    """Split a result of ``sum(rows)`` rows into those of each call."""
    leaves, structure = flatten(
        result, is_leaf=lambda value: isinstance(value, list) and _has_entry_per_row(value, sum(rows))
    )
    parts = [_part_leaf(leaf, rows) for leaf in leaves]
    return [unflatten([part[index] for part in parts], structure) for index in range(len(rows))]


def _part_leaf(leaf: Any, rows: Sequence[int]) -> list[Any]:
    if leaf is None or isinstance(leaf, bool | int | float | str | torch.dtype | torch.device):
        return [leaf] * len(rows)
    if isinstance(leaf, torch.Tensor | list) and _has_entry_per_row(leaf, sum(rows)):
        return [leaf[start:end] for start, end in pairwise(accumulate(rows, initial=0))]
    if hasattr(leaf, "__dict__") and not isinstance(leaf, torch.Tensor | torch.nn.Module):
        return _part_object(leaf, rows)
    raise UngroupableError(f"A result of type {type(leaf).__name__} cannot be told apart by {sum(rows)} rows.")


def _has_entry_per_row(result: Rows, rows: int) -> bool:
    """Whether to split the result itself, and not each of its entries, of which it may have as many by chance."""
    if isinstance(result, torch.Tensor):
        return result.ndim > 0 and len(result) == rows
    if all(isinstance(entry, torch.Tensor) and entry.ndim > 1 and len(entry) == rows for entry in result):
        return False
    return len(result) == rows


def _part_object(result: Any, rows: Sequence[int]) -> list[Any]:
    """Split a distribution, a language model's cache, or another object that keeps its tensors as attributes."""
    if hasattr(result, "batch_select_indices"):
        return _part_cache(result, rows)
    parts = [copy.copy(result) for _ in rows]
    for part, attributes in zip(parts, _part(vars(result), rows), strict=True):
        vars(part).update(attributes)
    return parts


def _part_cache(result: Any, rows: Sequence[int]) -> list[Any]:
    """Split a language model's cache, deep down: each part gets rows of its tensors, and no copies of them."""
    tensors = [tensor for tensor in all_tensors_of(result) if tensor.ndim > 0 and len(tensor) == sum(rows)]
    return [
        copy.deepcopy(result, {id(tensor): tensor[start:end] for tensor in tensors})
        for start, end in pairwise(accumulate(rows, initial=0))
    ]
