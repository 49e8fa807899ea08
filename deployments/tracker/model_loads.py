"""How long models take to load, and how far the loads under way are."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from datetime import datetime

from deployments.jobs.queue.views import ModelLoad
from deployments.tracker.model_state import SILENCE

_REMEMBERED_LOADS = 5


class ModelLoads:
    """Remembers what replicas announce while they load their models, and at the end of a load.

    A replica that loads announces it at regular times, so that one that has died is forgotten.

    Args:
        clock: Gives the time as an aware datetime.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._under_way: dict[str, dict[str, tuple[datetime, float]]] = {}
        self._past: dict[str, deque[float]] = {}

    def note(self, model_id: str, replica: str, seconds: float, *, is_over: bool) -> None:
        """Take note of how far a replica is.

        Args:
            model_id: The model's key in the catalog.
            replica: Tells the replicas of a model apart.
            seconds: How long it has been loading, or how long it took.
            is_over: Whether the model is loaded.
        """
        under_way = self._under_way.setdefault(model_id, {})
        if not is_over:
            under_way[replica] = (self._clock(), seconds)
            return
        under_way.pop(replica, None)
        self._past.setdefault(model_id, deque(maxlen=_REMEMBERED_LOADS)).append(seconds)

    def of(self, model_id: str) -> ModelLoad | None:
        """How far the replica is that will be there first; None where none is loading."""
        now = self._clock()
        heard = self._under_way.get(model_id, {}).values()
        seconds = [(now - at).total_seconds() + loading for at, loading in heard if now - at < SILENCE]
        if not seconds:
            return None
        past = self._past.get(model_id)
        return ModelLoad(max(seconds), statistics.median(past) if past else None)
