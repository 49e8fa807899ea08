"""Changes of states, booked where lanes and tallies are kept."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import Any

from sqlalchemy import RowMapping, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.lanes import upsert
from deployments.jobs.records import JobState
from deployments.jobs.tables import lanes, tallies

SHARDS = 8


class Ledger:
    """What one transaction does to the numbers of jobs.

    It is booked at the transaction's end, lanes before tallies and each in order: so no two transactions wait for each
    other, and the rows that many of them share are locked for the shortest time.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._jobs: Counter[tuple[str, str]] = Counter()
        self._pending: Counter[tuple[str, str]] = Counter()
        self._turns: dict[tuple[str, str], int] = {}

    def added(self, model_id: str) -> None:
        """Note a new pending job, which its lane has already counted."""
        self._jobs[JobState.PENDING, model_id] += 1

    def moved(self, job: RowMapping, before: JobState, after: JobState) -> None:
        """Note that a job went from one state to another."""
        self._jobs[before, job["model_id"]] -= 1
        self._jobs[after, job["model_id"]] += 1
        self._pending[_lane(job)] += (after is JobState.PENDING) - (before is JobState.PENDING)

    def claimed(self, job: RowMapping) -> None:
        """Note that a pending job was claimed, at its newest turn."""
        self.moved(job, JobState.PENDING, JobState.PROCESSING)
        self._turns[_lane(job)] = job["turn"]

    async def book(self) -> None:
        """Write down what was noted."""
        for (model_id, client), change in sorted(self._pending.items()):
            if not change:
                continue
            values: dict[str, Any] = {"pending": lanes.c.pending + change}
            if (model_id, client) in self._turns:
                values["last_turn"] = self._turns[model_id, client]
            await self._connection.execute(
                update(lanes).where(lanes.c.model_id == model_id, lanes.c.client == client).values(**values)
            )
        shard = secrets.randbelow(SHARDS)
        rows = [
            {"state": state, "model_id": model_id, "shard": shard, "jobs": change}
            for (state, model_id), change in sorted(self._jobs.items())
            if change
        ]
        if rows:
            added = upsert(self._connection, tallies).values(rows)
            await self._connection.execute(
                added.on_conflict_do_update(
                    index_elements=[tallies.c.state, tallies.c.model_id, tallies.c.shard],
                    set_={"jobs": tallies.c.jobs + added.excluded.jobs},
                )
            )


def _lane(job: RowMapping) -> tuple[str, str]:
    return job["model_id"], job["client"]
