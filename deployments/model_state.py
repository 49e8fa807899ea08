"""What is known of each model: whether a copy of it is loaded, and why one could not be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

ANNOUNCE_SECONDS = 10.0
_SILENCE = timedelta(seconds=4 * ANNOUNCE_SECONDS)


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
    """

    state: ModelState
    reason: str = ""


class ModelConditions:
    """Remembers what copies of models announce.

    A copy that is loaded says so again and again, so that one that has died is forgotten. That a model could not be
    loaded is remembered until a copy could, or until the catalog has another entry for it.

    Args:
        clock: Gives the time as an aware datetime.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._ready: dict[tuple[str, str], datetime] = {}
        self._failures: dict[tuple[str, str], str] = {}

    def note(self, model_id: str, fingerprint: str, load_failure: str) -> None:
        """Take note of what a copy announces.

        Args:
            model_id: The model's key in the catalog.
            fingerprint: Of the catalog entry that the copy was made with.
            load_failure: Why it could not load the model; empty if it could.
        """
        key = (model_id, fingerprint)
        if load_failure:
            self._failures[key] = load_failure
        else:
            self._failures.pop(key, None)
            self._ready[key] = self._clock()

    def of(self, fingerprints: Mapping[str, str]) -> dict[str, ModelCondition]:
        """The condition of each model.

        Args:
            fingerprints: Of the catalog's entries, by model id.
        """
        return {key[0]: self._condition(key) for key in fingerprints.items()}

    def _condition(self, key: tuple[str, str]) -> ModelCondition:
        announced = self._ready.get(key)
        if announced is not None and self._clock() - announced < _SILENCE:
            return ModelCondition(ModelState.READY)
        failure = self._failures.get(key)
        return ModelCondition(ModelState.UNAVAILABLE, failure) if failure else ModelCondition(ModelState.COLD)
