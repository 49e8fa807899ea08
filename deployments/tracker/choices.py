"""Which models clients have chosen for the requests that follow."""

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
