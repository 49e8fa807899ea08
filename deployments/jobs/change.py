"""One transaction that changes jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.ledger import Ledger


@dataclass(frozen=True)
class Change:
    """A transaction at one time, and what is to be booked at its end."""

    connection: AsyncConnection
    now: datetime
    ledger: Ledger
