"""What authentication and rate limits are tested with: a clock, windows that go by it, and keys."""

from __future__ import annotations

from limits.aio.storage import MemoryStorage

from deployments.jobs.records.api_keys import hash_of


class Seconds:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now


class ClockedStorage(MemoryStorage):
    """Counts as the real one does, by a clock of the test."""

    def __init__(self, clock: Seconds) -> None:
        super().__init__()
        self._clock = clock
        self._until: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        if self._until.get(key, 0) <= self._clock():
            self._until[key], self._counts[key] = self._clock() + expiry, 0
        self._counts[key] += amount
        return self._counts[key]

    async def get(self, key: str) -> int:
        return self._counts.get(key, 0) if self._until.get(key, 0) > self._clock() else 0

    async def get_expiry(self, key: str) -> float:
        return self._until.get(key, self._clock())


class Keys:
    """Stands in for the tracker: knows one key, and counts who asks."""

    def __init__(self, key: str) -> None:
        self.known = {hash_of(key): "the key"}
        self.asked = 0
        self.keys = self

    async def check(self, key_id, key_hash):
        self.asked += 1
        return self.known.get(key_hash)
