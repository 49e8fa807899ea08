"""Which forward calls may run as one, how they are joined, and how the result is parted again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from deployments.engine.exceptions import UngroupableError

# Tensors of these arguments have no batch dimension: all calls of a group share one value.
_SHARED_ARGUMENTS = {
    "FluxTransformer2DModel": frozenset({"txt_ids", "img_ids"}),
    "ChromaTransformer2DModel": frozenset({"txt_ids", "img_ids"}),
}
# Pipelines pass these as a Python number or a 0-d tensor, and the models take one value per row just as well.
_PER_ROW_NUMBERS = frozenset({"timestep", "timesteps"})
# These take a generator for the sake of a common signature and draw nothing from it.
_UNUSED_ARGUMENTS = {"AutoencoderKL": frozenset({"generator"}), "AutoencoderTiny": frozenset({"generator"})}
_LARGEST_COMPARED_BYTES = 1 << 16

Rows = torch.Tensor | list[Any]


@dataclass(frozen=True)
class _Slot:
    """Stands in a template for the rows that were taken out of it."""

    position: int


@dataclass(frozen=True)
class Call:
    """One call of a shared module.

    Attributes:
        owner: The class name of the module that is called.
        target: The function to call.
        template: The arguments by name, with a slot for everything that has one entry per row.
        columns: What belongs into the slots: tensors of shape (rows, ...), or lists of that length.
        rows: The batch size of this call.
        key: Calls with equal keys may run as one.
    """

    owner: str
    target: Callable[..., Any]
    template: dict[str, Any]
    columns: list[Rows]
    rows: int
    key: Hashable


def read_call(target: Callable[..., Any], owner: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Bind a call's arguments to their names and work out with which other calls it may run.

    Args:
        target: The function to call.
        owner: The class name of the module it belongs to.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Raises:
        UngroupableError: If no argument has a batch dimension.
    """
    unused = _UNUSED_ARGUMENTS.get(owner, frozenset())
    arguments = {name: value for name, value in _bind(target, args, kwargs).items() if name not in unused}
    rows = _count_rows(arguments)
    shared = _SHARED_ARGUMENTS.get(owner, frozenset())
    columns: list[Rows] = []
    template: dict[str, Any] = {}
    signature: list[Hashable] = [owner, id(target)]
    for name, value in arguments.items():
        row_value = _one_per_row(value, rows) if name in _PER_ROW_NUMBERS else value
        template[name], kind = _take_rows(row_value, -1 if name in shared else rows, columns)
        signature.append((name, kind))
    return Call(owner, target, template, columns, rows, tuple(signature))


def run_together(calls: Sequence[Call]) -> list[Any]:
    """Run calls of equal keys as one forward.

    Returns:
        Each call's own result, in order.

    Raises:
        UngroupableError: If the result has a part that cannot be told apart by rows.
    """
    first = calls[0]
    columns = [_join(values) for values in zip(*(call.columns for call in calls), strict=True)]
    result = first.target(**{name: _fill(value, columns) for name, value in first.template.items()})
    return [result] if len(calls) == 1 else _part(result, [call.rows for call in calls])


@cache
def _signature(target: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(target)


def _bind(target: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    bound = _signature(target).bind(*args, **kwargs)
    arguments: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            raise UngroupableError(f"{target} takes positional arguments without names.")
        if kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        else:
            arguments[name] = value
    return arguments


def _count_rows(arguments: Mapping[str, Any]) -> int:
    """The first argument with a batch dimension is the sample, or the token ids: its length is the batch."""
    for value in arguments.values():
        if isinstance(value, torch.Tensor) and value.ndim > 1:
            return value.shape[0]
        if isinstance(value, list) and value and all(isinstance(item, torch.Tensor) for item in value):
            return len(value)
    raise UngroupableError("The call has no argument with a batch dimension.")


def _one_per_row(value: Any, rows: int) -> Any:
    number = torch.tensor(value) if isinstance(value, int | float) else value
    if isinstance(number, torch.Tensor) and number.numel() == 1:
        return number.reshape(1).expand(rows)
    return value


def _take_rows(value: Any, rows: int, columns: list[Rows]) -> tuple[Any, Hashable]:
    """Move everything with one entry per row into ``columns``; returns the rest, and what must agree in a group."""
    if isinstance(value, torch.Tensor):
        if value.ndim == 0 or value.shape[0] != rows:
            return value, _content(value)
        columns.append(value)
        return _Slot(len(columns) - 1), (value.dtype, value.device, tuple(value.shape[1:]))
    if isinstance(value, list) and len(value) == rows:
        columns.append(value)
        return _Slot(len(columns) - 1), tuple(_entry_kind(item) for item in value[:1])
    if isinstance(value, Mapping):
        taken = {key: _take_rows(item, rows, columns) for key, item in value.items()}
        return {key: rest for key, (rest, _) in taken.items()}, tuple((key, kind) for key, (_, kind) in taken.items())
    if isinstance(value, tuple | list):
        entries = [_take_rows(item, rows, columns) for item in value]
        return type(value)(rest for rest, _ in entries), tuple(kind for _, kind in entries)
    return value, (type(value), value) if isinstance(value, Hashable) else id(value)


def _entry_kind(entry: Any) -> Hashable:
    if isinstance(entry, torch.Tensor):
        return (entry.dtype, entry.device, tuple(entry.shape))
    return type(entry).__name__


def _content(value: torch.Tensor) -> Hashable:
    """Shared tensors must be equal; those too large to compare are taken to differ."""
    if value.numel() * value.element_size() > _LARGEST_COMPARED_BYTES:
        return id(value)
    content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return (value.dtype, value.device, tuple(value.shape), content)


def _join(values: Sequence[Rows]) -> Rows:
    if isinstance(values[0], list):
        return [entry for value in values for entry in value]
    return torch.cat([value for value in values if isinstance(value, torch.Tensor)])


def _fill(value: Any, columns: Sequence[Rows]) -> Any:
    if isinstance(value, _Slot):
        return columns[value.position]
    if isinstance(value, Mapping):
        return {key: _fill(item, columns) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_fill(item, columns) for item in value)
    return value


def _part(result: Any, rows: Sequence[int]) -> list[Any]:
    if result is None:
        return [None] * len(rows)
    if isinstance(result, torch.Tensor) and result.ndim > 0 and result.shape[0] == sum(rows):
        return list(torch.split(result, list(rows)))
    if isinstance(result, DiagonalGaussianDistribution):
        return [DiagonalGaussianDistribution(part) for part in _part(result.parameters, rows)]
    if isinstance(result, Mapping):
        parts = {key: _part(value, rows) for key, value in result.items()}
        return [type(result)(**{key: part[index] for key, part in parts.items()}) for index in range(len(rows))]
    if isinstance(result, list) and len(result) == sum(rows):
        return [result[end - count : end] for end, count in zip(accumulate(rows), rows, strict=True)]
    if isinstance(result, tuple):
        return list(zip(*(_part(item, rows) for item in result), strict=True))
    raise UngroupableError(f"A result of type {type(result).__name__} cannot be told apart by {sum(rows)} rows.")
