"""Kills one process after the other, at random."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.chaos.served import Role, ServedCluster


@dataclass(frozen=True)
class Strike:
    """One thing that was done to the service."""

    what: str
    at: datetime


@dataclass
class Storm:
    """A seeded series of strikes.

    Attributes:
        cluster: What is struck.
        seed: Of the choices.
        every_seconds: From one strike to the next.
        calamities: What else is done, by the number of the strike in whose place it comes.
        strikes: What was done so far.
    """

    cluster: ServedCluster
    seed: int
    every_seconds: float
    calamities: Mapping[int, tuple[str, Callable[[], None]]] = field(default_factory=dict)
    strikes: list[Strike] = field(default_factory=list)

    def rage(self, strikes: int) -> None:
        """Strike so many times."""
        choice = random.Random(self.seed)
        for _ in range(strikes):
            time.sleep(self.every_seconds)
            calamity = self.calamities.get(len(self.strikes))
            if calamity is None:
                self._kill_one(choice)
            else:
                what, strike = calamity
                self.strikes.append(Strike(what, datetime.now(UTC)))
                strike()

    def kills(self) -> Counter[str]:
        """How often each thing was struck."""
        return Counter(strike.what for strike in self.strikes)

    def _kill_one(self, choice: random.Random) -> None:
        """Kill a process of some role that has one now: what is being restarted cannot die."""
        roles = list(Role)
        choice.shuffle(roles)
        for role in roles:
            pids = self.cluster.pids(role)
            if pids:
                self.strikes.append(Strike(f"{role.name.lower()} killed", datetime.now(UTC)))
                with suppress(ProcessLookupError):
                    os.kill(choice.choice(sorted(pids)), signal.SIGKILL)
                return
