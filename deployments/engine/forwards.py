"""Runs a group's calls as one forward."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch

from deployments.engine.checking import CheckedGroups
from deployments.engine.costs import name_of
from deployments.engine.encodings import EncodingCache, encoding_key
from deployments.engine.exactness import has_same_bits
from deployments.engine.forward_clock import ForwardClock, Launch
from deployments.engine.generation import Generation
from deployments.engine.grouping import Call
from deployments.engine.lora_sets import LoraSets
from deployments.engine.policy import Group, Policy
from deployments.engine.stages import module_of
from deployments.engine.statistics import EngineStatistics


@dataclass
class Forwards:
    """Forwards of one model on one device.

    Attributes:
        policy: Records what forwards take.
        groups: Runs calls together.
        encodings: The cache of encoded prompts.
        loras: Switches the modules to the LoRAs of a group.
        statistics: Updated with each forward.
        device: On which the model is.
    """

    policy: Policy
    groups: CheckedGroups
    encodings: EncodingCache
    loras: LoraSets
    statistics: EngineStatistics
    device: torch.device

    def __post_init__(self) -> None:
        self._clock = ForwardClock(self.device, self._note_seconds)

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

    def keep_pace(self) -> None:
        """Wait until another forward may be launched, and learn from those that are over.

        Raises:
            torch.AcceleratorError: If the device failed in one of them.
        """
        self._clock.keep_pace()

    def collect(self) -> None:
        """Learn from the forwards that are over; waits for none."""
        self._clock.collect()

    def find_exact_width(self, group: Group) -> bool:
        """Try a width for deterministic images that has not been tried on this device.

        Returns:
            True if there was something to learn; then another group may be better.
        """
        call, rows = group.calls[0], group.padded_rows
        name, widths = name_of(call), self.policy.exact_widths
        if rows is None or widths.is_known(name, rows):
            return False
        self._choose_loras(call)
        self.statistics.checking_rows += widths.rows + 2 * rows
        widths.note(name, rows, may_be=self._has_same_bits(call, rows))
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
        self.statistics.note_calls(calls, padded_rows)
        launch, checked_rows = self.policy.launch(calls, padded_rows), self.groups.checked_rows
        with self._clock.timing(launch):
            results = self.groups.run(calls, padded_rows)
            launch.has_check = self.groups.checked_rows > checked_rows
        self.statistics.checking_rows += self.groups.checked_rows - checked_rows
        return results

    def _note_seconds(self, launch: Launch, seconds: float) -> None:
        self.statistics.note_seconds(launch.stage, seconds)
        self.policy.note(launch, seconds)

    def _choose_loras(self, call: Call) -> None:
        self.loras.activate(module_of(call.target), call.loras)

    def _has_same_bits(self, call: Call, rows: int) -> bool:
        try:
            return has_same_bits(call, rows, like=self.policy.exact_widths.rows)
        except Exception:
            return False


def _key_of(generation: Generation, index: int) -> Hashable:
    """Equal for images whose calls have the same result."""
    call = generation.waiting_call
    key = None if call is None else encoding_key(call, alone=generation.request.settings.deterministic)
    return index if key is None else key
