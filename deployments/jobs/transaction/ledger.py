"""Changes of states, booked where lanes, blocks and tallies are kept."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.tables import blocks, lanes, tallies
from deployments.jobs.database.upserts import add_counts
from deployments.jobs.records.jobs import JobState
from deployments.jobs.transaction.lanes import BLOCK_PLACES, JobRow, Lane, is_in_lane, lane_of

SHARDS = 8


@dataclass
class Moves:
    """Changes of a transaction that others wait for.

    Attributes:
        jobs: Ids of the jobs that are in another state, or another place of the queue, now.
        has_claimable: Whether there may be more to claim.
        has_ended: Whether one of them has ended.
        deadline: The first time at which a pause ends or a job expires, of those that were set.
    """

    jobs: list[str] = field(default_factory=list)
    has_claimable: bool = False
    has_ended: bool = False
    deadline: datetime | None = None

    def __bool__(self) -> bool:
        """Whether anybody may wait for it."""
        return bool(self.jobs) or self.has_claimable

    def note_deadline(self, at: datetime | None) -> None:
        """Note a time at which something is due."""
        if at is not None and (self.deadline is None or at < self.deadline):
            self.deadline = at


class Ledger:
    """Collects how one transaction changes the numbers of jobs.

    It is booked at the transaction's end, lanes before blocks before tallies and each in order: so no two transactions
    wait for each other, and the rows that many of them share are locked for the shortest time.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self.moves = Moves()
        self._connection = connection
        self._jobs: Counter[tuple[str, str]] = Counter()
        self._waiting: Counter[Lane] = Counter()
        self._blocks: Counter[tuple[Lane, int]] = Counter()
        self._turns: dict[Lane, int] = {}

    def added(self, job: JobRow) -> None:
        """Note a new pending job, which its lane has already counted."""
        self._jobs[JobState.PENDING, job["model_id"]] += 1
        self._blocks[_block_of(job)] += 1
        self.moves.jobs.append(job["id"])
        self.moves.has_claimable = True
        self.moves.note_deadline(job["expires_at"])

    def moved(self, job: RowMapping, after: JobState) -> None:
        """Note that a job goes from the state that its row has to another, ``pending`` ones not into their lane."""
        self._jobs[job["state"], job["model_id"]] -= 1
        self._jobs[after, job["model_id"]] += 1
        self.moves.jobs.append(job["id"])
        self.moves.has_ended |= after.is_terminal
        if is_in_lane(job):
            self.left(job)

    def claimed(self, job: RowMapping, turn: int) -> None:
        """Note that a job of a lane is claimed, whose row is still that of the pending one, and at which turn."""
        self._jobs[JobState.PENDING, job["model_id"]] -= 1
        self._jobs[JobState.PROCESSING, job["model_id"]] += 1
        self.moves.jobs.append(job["id"])
        self._turns[lane_of(job)] = turn
        self.left(job)

    def waits(self, job: RowMapping) -> None:
        """Note that a job is pending from now on: in its lane, or until its pause ends outside of it."""
        for deadline in (job["not_before"], job["expires_at"]):
            self.moves.note_deadline(deadline)
        if not is_in_lane(job):
            return
        self._waiting[lane_of(job)] += 1
        self._blocks[_block_of(job)] += 1
        self.moves.has_claimable = True

    def left(self, job: RowMapping) -> None:
        """Note that a pending job goes out of its lane."""
        self._waiting[lane_of(job)] -= 1
        self._blocks[_block_of(job)] -= 1

    def removed(self, job: RowMapping) -> None:
        """Note that a job that has ended is forgotten."""
        self._jobs[job["state"], job["model_id"]] -= 1

    async def book_lanes(self) -> None:
        """Write down what was noted of lanes, for who looks at them in this transaction."""
        for lane, change in sorted(self._waiting.items()):
            values: dict[str, Any] = {"pending": lanes.c.pending + change}
            if lane in self._turns:
                values["last_turn"] = self._turns[lane]
            same = (lanes.c.model_id == lane.model_id, lanes.c.client == lane.client, lanes.c.priority == lane.priority)
            await self._connection.execute(update(lanes).where(*same).values(**values))
        changed = [
            {**lane._asdict(), "block": block, "pending": change}
            for (lane, block), change in sorted(self._blocks.items())
            if change
        ]
        await add_counts(self._connection, blocks, changed)
        for noted in (self._waiting, self._blocks, self._turns):
            noted.clear()

    async def book(self) -> None:
        """Write down what was noted."""
        await self.book_lanes()
        shard = secrets.randbelow(SHARDS)
        changed = [
            {"state": state, "model_id": model_id, "shard": shard, "jobs": change}
            for (state, model_id), change in sorted(self._jobs.items())
            if change
        ]
        await add_counts(self._connection, tallies, changed)


def _block_of(job: JobRow) -> tuple[Lane, int]:
    return lane_of(job), job["place"] // BLOCK_PLACES
