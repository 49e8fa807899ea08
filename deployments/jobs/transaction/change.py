"""One transaction that changes jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.transaction.backoff import Backoff
from deployments.jobs.transaction.ledger import Ledger


@dataclass(frozen=True)
class Change:
    """A transaction at one time, and what is to be booked at its end.

    Attributes:
        connection: Within the transaction.
        now: The time of everything that is done.
        ledger: What is noted of jobs that move.
        backoff: How long a job pauses between attempts.
    """

    connection: AsyncConnection
    now: datetime
    ledger: Ledger
    backoff: Backoff
