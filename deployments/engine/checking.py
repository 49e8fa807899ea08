"""Checks that a call in a group gives what it gives alone, without knowing the module that is called."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch

from deployments.engine.grouping import Call, Rows, run_alone, run_together
from deployments.engine.step_caches import StepCaches
from deployments.engine.trees import flatten, leaf_pairs, leaves_of

# Batch sizes choose kernels, kernels choose the order of sums. Means are compared with these tolerances, and the
# largest difference with ten times as much, as a few values of a text encoder can be a thousand times the others.
_TOLERANCES = {torch.float16: 1e-2, torch.bfloat16: 4e-2}
_TOLERANCE = 1e-4


class CheckedGroups:
    """Runs groups of calls. Each new kind of group is run both ways, and where the results differ, never again.

    What a group proves holds for all groups of its layouts, but only as far as its calls differed: a module that takes
    the first row's timestep for all passes with equal timesteps. So a group is checked again when its calls differ in
    an argument in which no checked group did. Step caches are neither used nor filled by the check itself.

    Args:
        step_caches: Of the modules that are called, if they have any.

    Attributes:
        checked_rows: Rows that were computed only for checks.
    """

    def __init__(self, step_caches: StepCaches | None = None) -> None:
        self.checked_rows = 0
        self._step_caches = step_caches or StepCaches({})
        self._checked: dict[Hashable, set[int]] = {}
        self._refused: set[Hashable] = set()
        self._forms: dict[Hashable, Hashable] = {}

    def may_join(self, first: Call, other: Call) -> bool:
        """Whether the two calls may share a forward."""
        return first.key == other.key and _kind([first, other]) not in self._refused

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
        if kind in self._refused or (len(calls) == 1 and padded_rows is None):
            return self._run_alone(calls, padded_rows)
        checked = self._checked.get(kind, set())
        differing = _differing_columns(calls, checked)
        if kind not in self._checked or not differing <= checked:
            self.checked_rows += sum(call.rows for call in calls)
            together, alone = _run_unchecked(calls, padded_rows), [run_alone(call) for call in calls]
            if together is None or not all(_close(one, other) for one, other in zip(together, alone, strict=True)):
                self._refused.add(kind)
                return self._run_alone(calls, padded_rows) if _have_memories(calls) else alone
            self._checked[kind] = differing | checked
            self._forms |= {call.layout: _form(result) for call, result in zip(calls, alone, strict=True)}
            if not _have_memories(calls):
                return together
        with self._step_caches.carrying(calls, padded_rows):
            results = run_together(calls, padded_rows)
        # A list in a result may have as many entries as this group has rows by chance, and be parted as if by rows.
        if all(_form(result) == self._forms[call.layout] for call, result in zip(calls, results, strict=True)):
            return results
        self._refused.add(kind)
        return self._run_alone(calls, padded_rows)

    def _run_alone(self, calls: Sequence[Call], padded_rows: int | None) -> list[Any]:
        results = []
        for call in calls:
            with self._step_caches.carrying([call], padded_rows and call.rows):
                results.append(run_alone(call))
        return results


def _have_memories(calls: Sequence[Call]) -> bool:
    return any(call.cached is not None for call in calls)


def _kind(calls: Sequence[Call]) -> Hashable:
    return frozenset(call.layout for call in calls)


def _differing_columns(calls: Sequence[Call], known: set[int]) -> set[int]:
    """The positions of the columns in which the calls differ, less the known ones, which need no look."""
    first = calls[0]
    unknown = set(range(len(first.columns))) - known
    return {
        position
        for position in unknown
        if any(_differ(first.columns[position], call.columns[position]) for call in calls[1:])
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
    tolerance = _TOLERANCES.get(one.dtype, _TOLERANCE)
    distance, size = (mine - theirs).abs(), theirs.abs()
    return bool(distance.mean() <= tolerance * size.mean()) and bool(distance.max() <= 10 * tolerance * size.max())
