"""Lets modules that take turns on the device stay there for as long as their coming took."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from statistics import median_low

from diffusers import DiffusionPipeline

from deployments.engine.forward_clock import Launch
from deployments.engine.generation import Generation
from deployments.engine.grouping import Call
from deployments.engine.stages import module_of

_RECENT_TRANSFERS = 5


def takes_turns(pipeline: DiffusionPipeline) -> bool:
    """Whether only one of a pipeline's modules at a time is on the device."""
    return bool(getattr(pipeline, "_all_hooks", ()))


class ModuleTurns:
    """Which module has the device, where each sends the others away when it is called (``offload: model``).

    A transfer costs as much as many steps. So a module stays while images wait for it, until it has worked for as long
    as it took to bring it in: at most half of the time goes into transfers, and nobody waits for longer than another
    turn.
    """

    def __init__(self) -> None:
        self._present: int | None = None
        self._transfers: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT_TRANSFERS))
        self._worked_seconds = 0.0

    def staying(self, waiting: Sequence[Generation]) -> Sequence[Generation]:
        """Those whose calls the module that is there still takes; all of them if its turn is over."""
        here = [each for each in waiting if each.waiting_call is not None and self.is_present(each.waiting_call)]
        return here if here and self._has_turn else waiting

    def is_present(self, call: Call) -> bool:
        """Whether the call's module is on the device."""
        return id(module_of(call.target)) == self._present

    def enter(self, call: Call) -> None:
        """Note that a call brings its module in."""
        self._present, self._worked_seconds = id(module_of(call.target)), 0.0

    def note(self, launch: Launch, seconds: float) -> float:
        """Record what a forward took, and return its seconds without the transfer."""
        transfer = max(0.0, seconds - launch.seconds) if launch.brings_module else 0.0
        if launch.brings_module:
            self._transfers[launch.module].append(transfer)
        if launch.module == self._present:
            self._worked_seconds += seconds - transfer
        return seconds - transfer

    @property
    def _has_turn(self) -> bool:
        transfers = self._transfers.get(self._present or 0)
        return not transfers or self._worked_seconds < median_low(transfers)
