"""The part of the job tracker that knows which models clients have chosen for what they ask for later."""

from __future__ import annotations

from cachetools import FIFOCache

MOST_CLIENTS = 10_000


class ModelChoices:
    """The model that each client chose last, in memory.

    Args:
        most: Clients to remember; where there are more, the one that chose longest ago is forgotten.
    """

    def __init__(self, most: int = MOST_CLIENTS) -> None:
        self._chosen: FIFOCache[str, str] = FIFOCache(most)

    def choose(self, client: str, model_id: str) -> None:
        """Remember a client's choice."""
        self._chosen[client] = model_id

    def of(self, client: str) -> str | None:
        """The model that a client chose last; None where it chose none."""
        return self._chosen.get(client)


class TrackerChoices:
    """Choices hold for all ingress replicas; a tracker that was restarted knows none."""

    _choices: ModelChoices

    async def choose_model(self, client: str, model_id: str) -> None:
        """Remember which model a client wants where its requests name none."""
        self._choices.choose(client, model_id)

    async def chosen_model(self, client: str) -> str | None:
        """Return the model that a client chose last; None where nothing is known."""
        return self._choices.of(client)
