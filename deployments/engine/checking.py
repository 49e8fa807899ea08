"""Checks that a call in a group gives what it gives alone, without knowing the module that is called."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch

from deployments.engine.checked_kinds import CheckedKinds, Kind
from deployments.engine.grouping import Call, Rows, run_alone, run_together
from deployments.engine.step_caches import StepCaches
from deployments.engine.trees import flatten, leaf_pairs, leaves_of, map_tensors, tensors_of

# Batch sizes choose kernels, kernels choose the order of sums. Means are compared with these tolerances, and the
# largest difference with ten times as much, as a few values of a text encoder can be a thousand times the others.
_TOLERANCES = {torch.float16: 1e-2, torch.bfloat16: 4e-2}
_TOLERANCE = 1e-4
# TF32 has float16's ten bits: https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
_TF32_TOLERANCE = _TOLERANCES[torch.float16]


class CheckedGroups:
    """Runs groups of calls. Each new kind of group is run both ways, and where the results differ, never again.

    What a group proves holds for all groups of its layouts, but only as far as its calls differed: a module that takes
    the first row's timestep for all passes with equal timesteps. To compare the arguments of each group would make the
    host wait for the device at each step. So the trial gives one of its calls other values wherever the calls agree. A
    module that passes is not looked at again. One that passes only with the values as they came is checked again when
    its calls differ in an argument in which no checked group did.

    A trial's results alone are those that are used; what it computes besides is counted, and happens once for each kind
    of group. Step caches are neither used nor filled by it.

    Args:
        step_caches: Of the modules that are called, if they have any.
        kinds: What was found out earlier on this device.

    Attributes:
        checked_rows: Rows that trials computed and that no image used.
    """

    def __init__(self, step_caches: StepCaches | None = None, kinds: CheckedKinds | None = None) -> None:
        self._step_caches = step_caches or StepCaches({})
        self._kinds = kinds or CheckedKinds()
        self.checked_rows = 0

    def may_join(self, first: Call, other: Call) -> bool:
        """Whether the two calls may share a forward."""
        return first.key == other.key and not self._kinds.is_refused(_kind([first, other]))

    def run(self, calls: Sequence[Call], padded_rows: int | None = None) -> list[Any]:
        """Run calls that may join.

        Args:
            calls: At least one.
            padded_rows: The exact number of rows that the forward must have, or None if any will do. Calls that
                must run alone run as they are all the same.

        Returns:
            Each call's own result, in order.

        Raises:
            torch.OutOfMemoryError: If they are too many; that proves nothing.
            Exception: What the module raises for one of the calls alone.
        """
        kind = _kind(calls)
        if self._kinds.is_refused(kind) or (len(calls) == 1 and padded_rows is None):
            return self._run_alone(calls, padded_rows)
        proved = self._kinds.proved_columns(kind)
        if proved is None or _differing_columns(calls, proved):
            alone = self._check(kind, calls, padded_rows)
            if padded_rows is None and all(call.cached is None for call in calls):
                return alone
            self.checked_rows += sum(call.rows for call in calls)
            return self.run(calls, padded_rows)
        with self._step_caches.carrying(calls, padded_rows):
            results = run_together(calls, padded_rows)
        # A list in a result may have as many entries as this group has rows by chance, and be parted as if by rows.
        if all(self._kinds.has_form(call.layout, _form(result)) for call, result in zip(calls, results, strict=True)):
            return results
        self._kinds.refuse(kind)
        return self._run_alone(calls, padded_rows)

    def _check(self, kind: Kind, calls: Sequence[Call], padded_rows: int | None) -> list[Any]:
        """Run calls both ways, note what that proves, and return their results alone."""
        differing = _differing_columns(calls, set())
        company, changed = _with_stranger(calls, differing, padded_rows)
        together = self._run_unchecked(company, padded_rows) if changed else None
        natural = None if together else self._run_unchecked(calls, padded_rows)
        alone = [run_alone(call) for call in calls]
        if together and _agree(together, [*alone[: len(company) - 1], self._run_stranger(company[-1])]):
            differing |= changed
        elif not _agree(natural or self._run_unchecked(calls, padded_rows), alone):
            self._kinds.refuse(kind)
            return alone
        forms = {call.layout: _form(result) for call, result in zip(calls, alone, strict=True)}
        self._kinds.note(kind, differing, forms)
        return alone

    def _run_unchecked(self, calls: Sequence[Call], padded_rows: int | None) -> list[Any] | None:
        self.checked_rows += padded_rows or sum(call.rows for call in calls)
        return _run_unchecked(calls, padded_rows)

    def _run_stranger(self, call: Call) -> Any:
        self.checked_rows += call.rows
        try:
            return run_alone(call)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            return error

    def _run_alone(self, calls: Sequence[Call], padded_rows: int | None) -> list[Any]:
        results = []
        for call in calls:
            with self._step_caches.carrying([call], padded_rows and call.rows):
                results.append(run_alone(call))
        return results


def _kind(calls: Sequence[Call]) -> Kind:
    return frozenset([call.layout for call in calls])


def _agree(results: list[Any] | None, alone: list[Any]) -> bool:
    return results is not None and all(_close(one, other) for one, other in zip(results, alone, strict=True))


def _with_stranger(calls: Sequence[Call], differing: set[int], padded_rows: int | None) -> tuple[list[Call], set[int]]:
    """Calls of which the last has other values in the columns that agree, and which columns that changed.

    Columns without tensors have equal values in all calls that may join, so that they prove nothing and need no proof.
    """
    last = calls[-1]
    columns, changed = list(last.columns), set[int]()
    for position in set(range(len(columns))) - differing:
        columns[position] = map_tensors(_other_values, last.columns[position])
        if not tensors_of(columns[position]) or _differ(last.columns[position], columns[position]):
            changed.add(position)
    stranger = replace(last, columns=columns, arguments=last.arguments_with(columns))
    company = [*(calls[:-1] or calls), stranger]
    fits = padded_rows is None or sum(call.rows for call in company) <= padded_rows
    return company, changed if fits else set()


def _other_values(tensor: torch.Tensor) -> torch.Tensor:
    """Numbers between 0 and those that are there, and so in the range of tables and of masks."""
    if tensor.is_floating_point() or tensor.is_complex():
        return tensor * 0.5 + 0.25
    half = tensor.clone()
    later = half[..., 1:] if half.ndim > 1 else half  # a mask keeps its first token, however few it has
    later.fill_(0) if half.dtype is torch.bool else later.floor_divide_(2)
    return half


def _differing_columns(calls: Sequence[Call], known: set[int]) -> set[int]:
    """The positions of the columns in which the calls differ, less the known ones, which need no look."""
    first = calls[0]
    return {
        position
        for position in range(len(first.columns))
        if position not in known and any(_differ(first.columns[position], call.columns[position]) for call in calls[1:])
    }


def _differ(mine: Rows, theirs: Rows) -> bool:
    shared = min(len(mine), len(theirs))
    if isinstance(mine, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return mine.shape[1:] != theirs.shape[1:] or not torch.equal(mine[:shared], theirs[:shared])
    pairs = leaf_pairs(mine[:shared], theirs[:shared])
    return pairs is None or any(_leaves_differ(one, other) for one, other in pairs)


def _leaves_differ(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return not torch.equal(one, other)
    return bool(one != other)


def _run_unchecked(calls: Sequence[Call], padded_rows: int | None) -> list[Any] | None:
    """The results of the group, or None if it fails, or draws random numbers, whose order a group changes."""
    generators = [leaf for call in calls for leaf in leaves_of(call.arguments) if isinstance(leaf, torch.Generator)]
    states = [generator.get_state() for generator in generators]
    try:
        results = run_together(calls, padded_rows)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        results = None
    for generator, state in zip(generators, states, strict=True):
        if not torch.equal(generator.get_state(), state):
            generator.set_state(state)
            results = None
    return results


def _form(result: Any) -> Hashable:
    """What two results of the same layout have in common: all but the values."""
    leaves, structure = flatten(result)
    return (structure, *map(_leaf_form, leaves))


def _leaf_form(leaf: Any) -> Hashable:
    return (leaf.dtype, tuple(leaf.shape)) if isinstance(leaf, torch.Tensor) else type(leaf).__qualname__


def _close(one: Any, other: Any) -> bool:
    pairs = leaf_pairs(one, other)
    return pairs is not None and all(_leaves_close(mine, theirs) for mine, theirs in pairs)


def _leaves_close(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and _tensors_close(one, other)
    if type(one) is not type(other):
        return False
    if hasattr(one, "__dict__"):
        return _close(vars(one), vars(other))
    return bool(one == other)


def _tensors_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not (one.is_floating_point() or one.is_complex()):
        return torch.equal(one, other)
    if not one.numel():
        return True
    precise = torch.complex128 if one.is_complex() else torch.float64 if one.device.type == "cpu" else torch.float32
    mine, theirs = (
        torch.nan_to_num(value.to(precise).abs() if value.is_complex() else value.to(precise)) for value in (one, other)
    )
    tolerance = _tolerance_of(one)
    distance, size = (mine - theirs).abs(), theirs.abs()
    return bool(distance.mean() <= tolerance * size.mean()) and bool(distance.max() <= 10 * tolerance * size.max())


def _tolerance_of(tensor: torch.Tensor) -> float:
    if tensor.dtype is torch.float32 and tensor.device.type == "cuda" and _may_use_tf32():
        return _TF32_TOLERANCE
    return _TOLERANCES.get(tensor.dtype, _TOLERANCE)


def _may_use_tf32() -> bool:
    """Whether float32 is rounded on its way into convolutions or products; in convolutions that is torch's default."""
    return torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
