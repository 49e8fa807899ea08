"""Runs a group's calls as one forward, after measuring what must be known for that."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch

from deployments.engine.checking import CheckedGroups
from deployments.engine.costs import ForwardCosts, name_of
from deployments.engine.encodings import EncodingCache, encoding_key
from deployments.engine.exactness import has_same_bits
from deployments.engine.generation import Generation
from deployments.engine.grouping import Call, run_rows
from deployments.engine.lora_sets import LoraSets
from deployments.engine.policy import Group, Policy
from deployments.engine.stages import Stage, module_of, stage_of
from deployments.engine.statistics import EngineStatistics


@dataclass
class Forwards:
    """Forwards of one model on one device.

    Attributes:
        policy: Records what forwards took, and which calls cannot share one.
        costs: Where measured costs are kept.
        groups: Runs calls together.
        encodings: The cache of encoded prompts.
        loras: Switches the modules to the LoRAs of a group.
        statistics: Updated with each forward.
        device: On which the model is.
    """

    policy: Policy
    costs: ForwardCosts
    groups: CheckedGroups
    encodings: EncodingCache
    loras: LoraSets
    statistics: EngineStatistics
    device: torch.device

    def recall(self, call: Call, *, alone: bool) -> Any | None:
        """The cached result of a text encoder's call, or None.

        Args:
            call: Any call.
            alone: Whether it must be the result of a forward of that call alone.
        """
        key = encoding_key(call, alone=alone)
        result = None if key is None else self.encodings.get(key)
        self.statistics.cached_encodings += result is not None
        return result

    def explore(self, group: Group) -> bool:
        """Measure what must be known of a group's calls before they share a forward.

        Returns:
            True if there was something to learn; then another group may be better.
        """
        call, name = group.calls[0], name_of(group.calls[0])
        if stage_of(call.target) is not Stage.DENOISING:
            return False
        self._choose_loras(call)
        if len(group.calls) > 1 and not self.costs.is_measured(name):
            self._measure(call, name)
            return True
        rows = group.padded_rows
        if rows is None or self.policy.exact_widths.is_known(name, rows):
            return False
        self.policy.exact_widths.note(name, rows, may_be=self._has_same_bits(call, rows))
        return True

    def run(self, group: Group) -> list[Any]:
        """Run a group and return each image's result, in order. Equal calls of a text encoder run once.

        Raises:
            Exception: Whatever the module raises.
        """
        keys = [_key_of(generation, index) for index, generation in enumerate(group.generations)]
        calls = dict(zip(keys, group.calls, strict=True))
        results = dict(zip(calls, self._run(list(calls.values()), group.padded_rows), strict=True))
        for key, result in results.items():
            if not isinstance(key, int):
                self.encodings.put(key, result)
        self.statistics.cached_encodings += len(keys) - len(calls)
        return [results[key] for key in keys]

    def _run(self, calls: list[Call], padded_rows: int | None) -> list[Any]:
        self._choose_loras(calls[0])
        self._synchronise()
        started = time.perf_counter()
        try:
            results = self.groups.run(calls, padded_rows)
            self._synchronise()
        finally:
            seconds = time.perf_counter() - started
            self.statistics.note_forward(calls, padded_rows, seconds)
        self.policy.note(calls, padded_rows, seconds)
        return results

    def _choose_loras(self, call: Call) -> None:
        self.loras.activate(module_of(call.target), call.loras)

    def _measure(self, call: Call, name: str) -> None:
        try:
            self.costs.measure(name, self.policy.most_rows, lambda rows: self._time(call, rows))
        except Exception:
            self.costs.note_unmeasurable(name)

    def _time(self, call: Call, rows: int) -> float:
        self._synchronise()
        started = time.perf_counter()
        run_rows(call, rows)
        self._synchronise()
        seconds = time.perf_counter() - started
        self.statistics.forward_seconds += seconds
        return seconds

    def _has_same_bits(self, call: Call, rows: int) -> bool:
        try:
            return has_same_bits(call, rows, like=self.policy.exact_widths.rows)
        except Exception:
            return False

    def _synchronise(self) -> None:
        """A GPU runs behind; without this, its time would count for the next measurement."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _key_of(generation: Generation, index: int) -> Hashable:
    """Equal for images whose calls have the same result."""
    call = generation.waiting_call
    key = None if call is None else encoding_key(call, alone=generation.request.settings.deterministic)
    return index if key is None else key
