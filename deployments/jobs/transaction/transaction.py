"""One transaction of the job store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.transaction.backoff import Backoff
from deployments.jobs.transaction.ledger import Ledger


@dataclass(frozen=True)
class Transaction:
    """A transaction at one time, and what is to be done at its end.

    Attributes:
        connection: Within the transaction.
        ledger: Notes the jobs that move; it is booked when a change ends.
        backoff: How long a job pauses between attempts.
        time: The time of everything that is done; None in a read that is not marked with ``reads_clock``.
        afterwards: Changes that follow once this transaction has ended, each in a transaction of its own.
    """

    connection: AsyncConnection
    ledger: Ledger
    backoff: Backoff
    time: datetime | None = None
    afterwards: list[Callable[[Transaction], Awaitable[Any]]] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        """The time of everything that is done."""
        if self.time is None:
            raise RuntimeError("This read has no clock: mark the operation with reads_clock.")
        return self.time
