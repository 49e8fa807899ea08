"""Lanes: the pending jobs of one client at one model, and whose turn it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, Table, and_, bindparam, case, func, select, text, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.records import JobState
from deployments.jobs.tables import WAITS, jobs, lanes


def upsert(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that can be told what to do about a row that exists."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


async def join_lane(connection: AsyncConnection, model_id: str, client: str) -> int:
    """Count one more pending job of a client, whose lane stays locked, and return the job's place."""
    joined = (
        upsert(connection, lanes)
        .values(model_id=model_id, client=client, pending=1, places=1, last_turn=0)
        .on_conflict_do_update(
            index_elements=[lanes.c.model_id, lanes.c.client],
            set_={"pending": lanes.c.pending + 1, "places": lanes.c.places + 1},
        )
        .returning(lanes.c.places)
    )
    place: int = (await connection.execute(joined)).scalar_one()
    return place


async def newest_turn(connection: AsyncConnection) -> int:
    """Return the highest turn that was taken; 0 before the first."""
    # Not max(): of a table that was never analyzed, PostgreSQL would read every row for it.
    return await connection.scalar(select(lanes.c.last_turn).order_by(lanes.c.last_turn.desc()).limit(1)) or 0


async def next_jobs(connection: AsyncConnection, model_id: str, count: int) -> list[str]:
    """Return ids of up to ``count`` pending jobs of a model in the order of their turns; jobs and lanes stay locked.

    Round robin: every client's oldest job before anybody's second one. Within a round the client goes first whose last
    turn at this model was longest ago, then the one that is longer known to it. Lanes that others have locked are
    passed over: see :func:`await_lane`.
    """
    free = await connection.execute(_waiting(model_id).limit(count).with_for_update(skip_locked=True))
    found = free.mappings().all()
    shares = _shares([lane["pending"] for lane in found], count)
    taken = [await _oldest(connection, lane, share) for lane, share in zip(found, shares, strict=True)]
    rounds = range(max(shares, default=0))
    return [ids[each] for each in rounds for ids in taken if each < len(ids)]


async def await_lane(connection: AsyncConnection, model_ids: Sequence[str]) -> str | None:
    """Lock a lane with pending jobs of one of the models, waiting for who has locked it; returns its model, if any.

    For a transaction that has locked nothing yet: only such a one may wait without becoming part of a ring of waiters.
    """
    next_one = select(lanes.c.number, lanes.c.model_id).where(lanes.c.model_id.in_(model_ids), WAITS).limit(1)
    found = (await connection.execute(next_one)).one_or_none()
    if found is None:
        return None
    await connection.execute(select(lanes.c.number).where(lanes.c.number == found.number).with_for_update())
    return str(found.model_id)


async def position_of(connection: AsyncConnection, job_id: str) -> int | None:
    """Return how many jobs of its model have their turn up to and including a pending job; None for any other."""
    found = (await connection.execute(_RANK, {"job_id": job_id})).one_or_none()
    if found is None:
        return None
    own = found.place - found.first + 1 - found.left
    # Of each lane ahead as many jobs come first as this one's rank in its own lane; of each lane behind one fewer.
    order, mine = tuple_(lanes.c.last_turn, lanes.c.number), tuple_(found.last_turn, found.number)
    earlier = case((lanes.c.pending < own, lanes.c.pending), (order < mine, own), else_=own - 1)
    others = lanes.c.number != found.number if own > 1 else order < mine
    counted = select(func.sum(earlier)).where(lanes.c.model_id == found.model_id, WAITS, others)
    return int(own + (await connection.scalar(counted) or 0))


def _waiting(model_id: str) -> Select[Any]:
    return select(lanes).where(lanes.c.model_id == model_id, WAITS).order_by(lanes.c.last_turn, lanes.c.number)


def _shares(pending: Sequence[int], count: int) -> list[int]:
    """How many of ``count`` turns each lane gets, in rounds, where none gets more than it has pending jobs."""
    shares = [0] * len(pending)
    while count and shares != list(pending):
        for lane, waiting in enumerate(pending):
            if count and shares[lane] < waiting:
                shares[lane] += 1
                count -= 1
    return shares


async def _oldest(connection: AsyncConnection, lane: RowMapping, count: int) -> Sequence[str]:
    # A job that is locked is being cancelled: that transaction waits for the lane, and must not be waited for.
    found = await connection.scalars(
        select(jobs.c.id)
        .where(*_pending_in(lane))
        .order_by(jobs.c.place)
        .limit(count)
        .with_for_update(skip_locked=True)
    )
    return found.all()


def _pending_in(lane: RowMapping) -> tuple[ColumnElement[bool], ...]:
    return (
        jobs.c.state == JobState.PENDING,
        jobs.c.model_id == lane["model_id"],
        jobs.c.client == lane["client"],
    )


def _rank() -> Select[Any]:
    """Where a pending job stands in its lane: its place, the first pending job's, and how many in between have left."""
    ahead, gone = jobs.alias("ahead"), jobs.alias("gone")
    first = (
        select(ahead.c.place)
        .where(ahead.c.state == JobState.PENDING, ahead.c.model_id == jobs.c.model_id, ahead.c.client == jobs.c.client)
        .order_by(ahead.c.place)
        .limit(1)
        .correlate(jobs)
        .scalar_subquery()
    )
    left = (
        select(func.count())
        .where(
            gone.c.model_id == jobs.c.model_id,
            gone.c.client == jobs.c.client,
            gone.c.place.between(first, jobs.c.place),
            text("gone.state <> 'pending'"),
        )
        .correlate(jobs)
        .scalar_subquery()
    )
    return (
        select(
            jobs.c.model_id,
            jobs.c.place,
            lanes.c.last_turn,
            lanes.c.number,
            first.label("first"),
            left.label("left"),
        )
        .join(lanes, and_(lanes.c.model_id == jobs.c.model_id, lanes.c.client == jobs.c.client))
        .where(jobs.c.id == bindparam("job_id"), jobs.c.state == JobState.PENDING)
    )


_RANK = _rank()
