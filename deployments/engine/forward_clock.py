"""Times forwards on their device without holding it up, and keeps the host one forward ahead of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from deployments.engine.stages import Stage

_RUN_AHEAD = 1
"""Forwards that may wait on the device behind the one that runs. With none, the device idles while the host works
between two forwards; with more, cancels and newcomers take effect later."""


@dataclass
class Launch:
    """A forward that was given to the device.

    Attributes:
        name: Of its calls, see :func:`~deployments.engine.costs.name_of`.
        stage: That its calls belong to.
        module: The identity of the module that is called.
        rows: Padding included.
        seconds: That it takes: the expected ones until they are measured, or 0 if nothing is known.
        brings_module: Whether its module has to be brought to the device first.
        has_check: Whether its calls ran twice, to check if they may share a forward.
    """

    name: str
    stage: Stage
    module: int
    rows: int
    seconds: float = 0.0
    brings_module: bool = False
    has_check: bool = False


class ForwardClock:
    """Measures how long the device takes for each forward.

    On an accelerator, events are put into its stream around each forward. They are read when the device has passed
    them: nothing waits for the whole device, and what others do on it in other streams does not count. On the CPU a
    forward is over when its call returns.

    Args:
        device: On which the forwards run.
        on_timed: Called with each forward that is over, and its measured seconds, in the order of the launches.
    """

    def __init__(self, device: torch.device, on_timed: Callable[[Launch, float], None]) -> None:
        self._device = device
        self._on_timed = on_timed
        self._under_way: deque[tuple[Launch, Any, Any]] = deque()

    @contextmanager
    def timing(self, launch: Launch) -> Iterator[None]:
        """Time the forward that the block calls. One that raises is not measured."""
        if self._device.type == "cpu":
            started = time.perf_counter()
            yield
            self._on_timed(launch, time.perf_counter() - started)
            return
        start, end = self._event(), self._event()
        start.record()
        yield
        end.record()
        self._under_way.append((launch, start, end))

    def collect(self) -> None:
        """Read the times of the forwards that are over; waits for none."""
        while self._under_way and self._under_way[0][2].query():
            self._read_first()

    def keep_pace(self) -> None:
        """Wait until another forward may be launched: while the device runs one, it is the next.

        Raises:
            torch.AcceleratorError: If the device failed in a forward.
        """
        self.collect()
        while len(self._under_way) > _RUN_AHEAD:
            self._under_way[0][2].synchronize()
            self._read_first()

    def _read_first(self) -> None:
        launch, start, end = self._under_way.popleft()
        self._on_timed(launch, start.elapsed_time(end) / 1e3)

    def _event(self) -> Any:
        # Those of CUDA can have the host sleep while it waits; the generic ones spin.
        if self._device.type == "cuda":
            return torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
        return torch.Event(self._device, enable_timing=True)
