"""Which forward calls may run as one, how they are joined, and how the result is parted again.

Nothing here knows a model: what has one entry per row is read from the shapes. That reading can be wrong by chance, so
a new kind of group is checked against its calls run alone before it is relied on (see ``checking.py``).
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch

from deployments.engine.step_cache import CachedPass
from deployments.pipelines.exceptions import UngroupableError

# Pipelines pass these as a Python number or a 0-d tensor, and the models take one value per row just as well.
_PER_ROW_NUMBERS = ("timestep", "sigma")
_LARGEST_COMPARED_BYTES = 1 << 26
_PLAIN_TYPES = (bool, int, str, bytes, type(None), torch.dtype, torch.device)

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
        arguments: The arguments by name, as they came.
        template: The same with a slot for everything that has one entry per row.
        columns: What belongs into the slots: tensors of shape (rows, ...), or lists of that length.
        rows: The batch size of this call.
        key: Calls with equal keys may run as one.
        layout: The key less the values: calls of equal layout differ in numbers only, so that what one group of them
            proved holds for the next.
        loras: Names and scales of the LoRAs that the module shall be called with, besides those that always are on.
        cached: What the image keeps of earlier calls, if it has a step cache.
    """

    owner: str
    target: Callable[..., Any]
    arguments: dict[str, Any]
    template: dict[str, Any]
    columns: list[Rows]
    rows: int
    key: Hashable
    layout: Hashable
    loras: tuple[tuple[str, float], ...] = ()
    cached: CachedPass | None = None


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
    columns: list[Rows] = []
    taken = {name: _take_rows(_per_row(name, value, sample, rows), rows, columns) for name, value in arguments.items()}
    return Call(
        owner=owner,
        target=target,
        arguments=arguments,
        template={name: part.rest for name, part in taken.items()},
        columns=columns,
        rows=rows,
        key=(id(target), loras, *((name, part.key) for name, part in taken.items())),
        layout=(id(target), bool(loras), rows, *((name, part.layout) for name, part in taken.items())),
        loras=loras,
    )


def run_alone(call: Call) -> Any:
    """Run a call exactly as the pipeline made it."""
    return call.target(**call.arguments)


def run_together(calls: Sequence[Call], padded_rows: int | None = None) -> list[Any]:
    """Run calls of equal keys as one forward.

    Args:
        calls: At least one.
        padded_rows: The number of rows that the forward shall have: the first row is repeated until it has them, and
            the results of the repetitions are dropped. Not fewer than the calls have.

    Returns:
        Each call's own result, in order.

    Raises:
        UngroupableError: If the result has a part that cannot be told apart by rows.
    """
    if len(calls) == 1 and padded_rows is None:
        return [run_alone(calls[0])]
    rows = [call.rows for call in calls]
    padding = (padded_rows or sum(rows)) - sum(rows)
    columns = [_pad(_join(values), padding) for values in zip(*(call.columns for call in calls), strict=True)]
    return _part(_run(calls[0], columns), [*rows, padding] if padding else rows)[: len(calls)]


def run_rows(call: Call, rows: int) -> Any:
    """Run a forward of so many rows: the first ones of a call, repeated where it has too few."""
    return _run(call, [_pad(column[:rows], rows - len(column[:rows])) for column in call.columns])


def _run(call: Call, columns: list[Rows]) -> Any:
    return call.target(**{name: _fill(value, columns) for name, value in call.template.items()})


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


def _find_sample(arguments: Mapping[str, Any]) -> tuple[torch.Tensor, int]:
    """The first argument with a batch dimension is the sample, or the token ids: its length is the batch."""
    for value in arguments.values():
        if isinstance(value, torch.Tensor) and value.ndim > 1:
            return value, value.shape[0]
        if isinstance(value, list) and value and (tensors := _tensors(value)):
            return tensors[0], len(value)
    raise UngroupableError("The call has no argument with a batch dimension.")


def _tensors(entries: list[Any]) -> list[torch.Tensor]:
    """The tensors of a list of tensors, or of lists of tensors; none if anything else is in it."""
    found: list[torch.Tensor] = []
    for entry in entries:
        inner = [entry] if isinstance(entry, torch.Tensor) else _tensors(entry) if isinstance(entry, list) else []
        if not inner:
            return []
        found += inner
    return found


def _per_row(name: str, value: Any, sample: torch.Tensor, rows: int) -> Any:
    """One number for all rows as one number for each, where that is known to mean the same."""
    named = any(word in name for word in _PER_ROW_NUMBERS)
    if named and isinstance(value, int | float) and not isinstance(value, bool):
        return torch.tensor(value, device=sample.device).expand(rows)
    if isinstance(value, torch.Tensor) and (value.ndim == 0 or (named and value.numel() == 1)):
        return value.reshape(1).expand(rows)
    return value


class _Taken(NamedTuple):
    """What is left of a value whose rows were taken, what of it must agree in a group, and that without its values."""

    rest: Any
    key: Hashable
    layout: Hashable


def _take_rows(value: Any, rows: int, columns: list[Rows]) -> _Taken:
    if isinstance(value, torch.Tensor):
        return _take_tensor(value, rows, columns)
    if isinstance(value, torch.Generator):
        # Most modules take one for the sake of a common signature; the check of a group finds those that draw from it.
        return _Taken(value, torch.Generator, torch.Generator)
    if isinstance(value, list) and len(value) == rows:
        columns.append(value)
        kind = _entries_kind(value)
        return _Taken(_Slot(len(columns) - 1), kind, kind)
    if isinstance(value, Mapping | tuple | list):
        return _take_from_container(value, rows, columns)
    if isinstance(value, _PLAIN_TYPES):
        return _Taken(value, (type(value), value), (type(value), value))
    return _Taken(value, _identity(value), type(value).__qualname__)


def _take_from_container(value: Any, rows: int, columns: list[Rows]) -> _Taken:
    if isinstance(value, Mapping):
        items = {name: _take_rows(item, rows, columns) for name, item in value.items()}
        return _Taken(
            {name: item.rest for name, item in items.items()},
            tuple((name, item.key) for name, item in items.items()),
            tuple((name, item.layout) for name, item in items.items()),
        )
    entries = [_take_rows(item, rows, columns) for item in value]
    return _Taken(
        _rebuild(value, [entry.rest for entry in entries]),
        (type(value), *(entry.key for entry in entries)),
        (type(value), *(entry.layout for entry in entries)),
    )


def _take_tensor(value: torch.Tensor, rows: int, columns: list[Rows]) -> _Taken:
    form = (value.dtype, value.device, tuple(value.shape))
    if value.ndim == 0 or value.shape[0] != rows:
        return _Taken(value, (form, _content(value)), form)
    columns.append(value)
    kind = (value.dtype, value.device, tuple(value.shape[1:]))
    return _Taken(_Slot(len(columns) - 1), kind, kind)


def _entries_kind(entries: list[Any]) -> Hashable:
    """What must agree in the entries of two per-row lists; sequences in a list may differ in length."""
    kinds: set[Hashable] = set()
    for entry in entries:
        if isinstance(entry, torch.Tensor):
            shape = tuple(entry.shape)
            kinds.add((entry.dtype, entry.device, entry.ndim, shape[-1:] if entry.ndim <= 2 else shape))
        elif isinstance(entry, list | tuple):
            kinds.add((len(entry), _entries_kind(list(entry))))
        else:
            kinds.add(_identity(entry))
    return frozenset(kinds)


def _identity(value: Any) -> Hashable:
    return (type(value), value) if isinstance(value, Hashable) else id(value)


def _content(value: torch.Tensor) -> Hashable:
    """Shared tensors must be equal; those too large to compare are taken to differ."""
    if value.numel() * value.element_size() > _LARGEST_COMPARED_BYTES:
        return id(value)
    content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.blake2b(content.data, digest_size=16).digest()


def _rebuild(value: tuple[Any, ...] | list[Any], entries: list[Any]) -> Any:
    return (
        entries if isinstance(value, list) else type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)
    )


def _join(values: Sequence[Rows]) -> Rows:
    if isinstance(values[0], list):
        return [entry for value in values for entry in value]
    return torch.cat([value for value in values if isinstance(value, torch.Tensor)])


def _pad(rows: Rows, padding: int) -> Rows:
    if isinstance(rows, list):
        return rows + rows[:1] * padding
    return torch.cat([rows, rows[:1].expand(padding, *rows.shape[1:])]) if padding else rows


def _fill(value: Any, columns: Sequence[Rows]) -> Any:
    if isinstance(value, _Slot):
        return columns[value.position]
    if isinstance(value, Mapping):
        return {key: _fill(item, columns) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return _rebuild(value, [_fill(item, columns) for item in value])
    return value


def _part(result: Any, rows: Sequence[int]) -> list[Any]:
    """Part a result of ``sum(rows)`` rows into those of each call."""
    if result is None or isinstance(result, bool | int | float | str | torch.dtype | torch.device):
        return [result] * len(rows)
    if isinstance(result, torch.Tensor | list) and _has_entry_per_row(result, sum(rows)):
        return [result[start:end] for start, end in pairwise(accumulate(rows, initial=0))]
    if isinstance(result, Mapping):
        parts = {key: _part(value, rows) for key, value in result.items()}
        return [type(result)(**{key: part[index] for key, part in parts.items()}) for index in range(len(rows))]
    if isinstance(result, tuple | list):
        return [
            _rebuild(result, list(entries)) for entries in zip(*(_part(item, rows) for item in result), strict=True)
        ]
    if hasattr(result, "__dict__") and not isinstance(result, torch.Tensor | torch.nn.Module):
        return _part_object(result, rows)
    raise UngroupableError(f"A result of type {type(result).__name__} cannot be told apart by {sum(rows)} rows.")


def _has_entry_per_row(result: Rows, rows: int) -> bool:
    """Whether it is to be parted itself, and not each of its entries, of which it may have as many by chance."""
    if isinstance(result, torch.Tensor):
        return result.ndim > 0 and len(result) == rows
    if all(isinstance(entry, torch.Tensor) and entry.ndim > 1 and len(entry) == rows for entry in result):
        return False
    return len(result) == rows


def _part_object(result: Any, rows: Sequence[int]) -> list[Any]:
    """Part a distribution, a language model's cache, or another object that keeps its tensors as attributes."""
    bounds = list(pairwise(accumulate(rows, initial=0)))
    if hasattr(result, "batch_select_indices"):
        parts = [copy.deepcopy(result) for _ in rows]
        for part, (start, end) in zip(parts, bounds, strict=True):
            part.batch_select_indices(torch.arange(start, end))
        return parts
    attributes = {name: _part(value, rows) for name, value in vars(result).items()}
    parts = [copy.copy(result) for _ in rows]
    for index, part in enumerate(parts):
        vars(part).update({name: values[index] for name, values in attributes.items()})
    return parts
