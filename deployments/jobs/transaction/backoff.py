"""The pause between two attempts at a job."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter: a random share of a span that doubles with every attempt, up to a cap.

    See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.

    Attributes:
        base_seconds: The span after the first attempt; 0 for no pauses.
        cap_seconds: The longest span.
        jitter: Gives the share, 0 to 1.
    """

    base_seconds: float = 0.0
    cap_seconds: float = 0.0
    jitter: Callable[[], float] = random.random

    def pause_after(self, attempt: int) -> timedelta:
        """Return how long a job waits after its attempt with this number, from 1."""
        # Doubled no further than floats go.
        span = min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 64))
        return timedelta(seconds=span * self.jitter())


NO_PAUSES = Backoff()
