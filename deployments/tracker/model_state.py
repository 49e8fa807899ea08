"""The condition of each model: whether a copy of it is loaded, and why a load failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

ANNOUNCE_SECONDS = 10.0
SILENCE = timedelta(seconds=4 * ANNOUNCE_SECONDS)


class ModelState(StrEnum):
    """Whether a model can draw."""

    COLD = "cold"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ModelCondition:
    """A model as its copies say it is.

    Attributes:
        state: Cold where no copy runs; unavailable where the last one could not load it; unknown where nobody can tell.
        reason: Why it is unavailable.
        replicas: Copies that are loaded.
    """

    state: ModelState
    reason: str = ""
    replicas: int = 0


class ModelConditions:
    """Remembers what copies of models announce.

    A copy that is loaded says so again and again, so that one that has died is forgotten. That a model could not be
    loaded is remembered until a copy could, or until the catalog has another entry for it.

    Args:
        clock: Gives the time as an aware datetime.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._ready: dict[tuple[str, str], dict[str, datetime]] = {}
        self._failures: dict[tuple[str, str], str] = {}

    def note(self, model_id: str, fingerprint: str, load_failure: str, replica: str) -> None:
        """Take note of what a copy announces.

        Args:
            model_id: The model's key in the catalog.
            fingerprint: Of the catalog entry that the copy was made with.
            load_failure: Why it could not load the model; empty if it could.
            replica: Tells the copies of a model apart.
        """
        key = (model_id, fingerprint)
        if load_failure:
            self._failures[key] = load_failure
        else:
            self._failures.pop(key, None)
            self._ready[key] = {**self._heard_lately(key), replica: self._clock()}

    def of(self, fingerprints: Mapping[str, str]) -> dict[str, ModelCondition]:
        """The condition of each model.

        Args:
            fingerprints: Of the catalog's entries, by model id.
        """
        return {key[0]: self._condition(key) for key in fingerprints.items()}

    def _condition(self, key: tuple[str, str]) -> ModelCondition:
        ready = self._heard_lately(key)
        if ready:
            return ModelCondition(ModelState.READY, replicas=len(ready))
        failure = self._failures.get(key)
        return ModelCondition(ModelState.UNAVAILABLE, failure) if failure else ModelCondition(ModelState.COLD)

    def _heard_lately(self, key: tuple[str, str]) -> dict[str, datetime]:
        now = self._clock()
        return {replica: heard for replica, heard in self._ready.get(key, {}).items() if now - heard < SILENCE}
