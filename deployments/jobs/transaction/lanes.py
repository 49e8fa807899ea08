"""Lanes: the jobs of one client that wait at one model in one class of priority, and whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Integer,
    RowMapping,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.tables import IN_LANE, WAITS, blocks, jobs, lanes, pauses
from deployments.jobs.database.upserts import upsert
from deployments.jobs.records.jobs import JobState

BLOCK_PLACES = 512
"""Places of a lane that are counted together, so that a position takes few rows of either kind."""


JobRow = RowMapping | Mapping[str, Any]
"""A row of ``jobs``, as it was read or as it was written."""


class Lane(NamedTuple):
    """Which lane."""

    model_id: str
    client: str
    priority: int


def lane_of(job: JobRow) -> Lane:
    """The lane that a job waits in, or would."""
    return Lane(job["model_id"], job["client"], job["priority"])


def is_in_lane(job: RowMapping) -> bool:
    """Whether a job can be claimed: pending, and not pausing between attempts."""
    return bool(job["state"] == JobState.PENDING and job["not_before"] is None)


async def join_lane(connection: AsyncConnection, lane: Lane, count: int, waiting: int) -> range:
    """Give out ``count`` places of a lane, which stays locked, and count ``waiting`` more pending jobs in it."""
    joined = (
        upsert(connection, lanes)
        .values(**lane._asdict(), pending=waiting, places=count, last_turn=0)
        .on_conflict_do_update(
            index_elements=[lanes.c.model_id, lanes.c.client, lanes.c.priority],
            set_={"pending": lanes.c.pending + waiting, "places": lanes.c.places + count},
        )
        .returning(lanes.c.places)
    )
    newest: int = (await connection.execute(joined)).scalar_one()
    return range(newest - count + 1, newest + 1)


async def newest_turn(connection: AsyncConnection) -> int:
    """Return the highest turn that was taken; 0 before the first."""
    # Not max(): of a table that was never analyzed, PostgreSQL would read every row for it.
    return await connection.scalar(select(lanes.c.last_turn).order_by(lanes.c.last_turn.desc()).limit(1)) or 0


async def next_jobs(connection: AsyncConnection, model_id: str, count: int, now: datetime) -> list[str]:
    """Return ids of up to ``count`` jobs of a model in the order of their turns; jobs and lanes stay locked.

    None of a model that is paused, and none that has expired by ``now``. The higher class of priority first; in a class
    round robin: every client's oldest job before anybody's second one. Within a round the client goes first whose last
    turn at this model was longest ago, then the one that is longer known to it. Lanes that others have locked are
    passed over: see :func:`await_lane`.
    """
    order = (lanes.c.priority, lanes.c.last_turn, lanes.c.number)
    waiting = select(lanes).where(lanes.c.model_id == model_id, WAITS, _is_open()).order_by(*order).limit(count)
    free = await connection.execute(waiting.with_for_update(skip_locked=True, of=lanes))
    ids: list[str] = []
    for _, of_class in groupby(free.mappings().all(), key=lambda lane: lane["priority"]):
        ids += await _in_rounds(connection, list(of_class), count - len(ids), now)
    return ids


async def await_lane(connection: AsyncConnection, model_ids: Sequence[str]) -> str | None:
    """Lock a lane with pending jobs of one of the models, waiting for who has locked it; returns its model, if any.

    For a transaction that has locked no lane yet: only such a one may wait without becoming part of a ring of waiters.
    """
    next_one = (
        select(lanes.c.number, lanes.c.model_id).where(lanes.c.model_id.in_(model_ids), WAITS, _is_open()).limit(1)
    )
    found = (await connection.execute(next_one)).one_or_none()
    if found is None:
        return None
    await connection.execute(select(lanes.c.number).where(lanes.c.number == found.number).with_for_update())
    return str(found.model_id)


async def lock_lanes_of(connection: AsyncConnection, model_id: str, client: str) -> None:
    """Lock a client's lanes at a model, for who changes several of them."""
    mine = (lanes.c.model_id == model_id, lanes.c.client == client)
    await connection.execute(select(lanes.c.number).where(*mine).order_by(lanes.c.priority).with_for_update())


async def position_of(connection: AsyncConnection, job_id: str) -> int | None:
    """Return how many jobs of its model have their turn up to and including one; None if it is in no lane."""
    found = (await connection.execute(_RANK, {"job_id": job_id})).one_or_none()
    if found is None:
        return None
    own = found.before + found.beside
    # Of each lane of its class ahead as many jobs come first as this one's rank in its own lane; of each lane behind
    # one fewer; of a higher class all.
    order = tuple_(lanes.c.priority, lanes.c.last_turn, lanes.c.number)
    mine = tuple_(found.priority, found.last_turn, found.number)
    counts_all = (lanes.c.priority < found.priority) | (lanes.c.pending < own)
    earlier = case((counts_all, lanes.c.pending), (order < mine, own), else_=own - 1)
    behind_too = and_(lanes.c.number != found.number, lanes.c.priority <= found.priority)
    others = behind_too if own > 1 else order < mine
    counted = select(func.sum(earlier)).where(lanes.c.model_id == found.model_id, WAITS, others)
    return int(own + (await connection.scalar(counted) or 0))


def _is_open() -> ColumnElement[bool]:
    return ~exists().where(pauses.c.model_id == lanes.c.model_id)


async def _in_rounds(connection: AsyncConnection, found: Sequence[RowMapping], count: int, now: datetime) -> list[str]:
    shares = _shares([lane["pending"] for lane in found], count)
    taken = [await _oldest(connection, lane, share, now) for lane, share in zip(found, shares, strict=True) if share]
    rounds = range(max(shares, default=0))
    return [ids[each] for each in rounds for ids in taken if each < len(ids)]


def _shares(pending: Sequence[int], count: int) -> list[int]:
    """How many of ``count`` turns each lane gets, in rounds, where none gets more than it has pending jobs."""
    shares = [0] * len(pending)
    while count and shares != list(pending):
        for lane, waiting in enumerate(pending):
            if count and shares[lane] < waiting:
                shares[lane] += 1
                count -= 1
    return shares


async def _oldest(connection: AsyncConnection, lane: RowMapping, count: int, now: datetime) -> Sequence[str]:
    of_lane = (
        IN_LANE,
        jobs.c.model_id == lane["model_id"],
        jobs.c.client == lane["client"],
        jobs.c.priority == lane["priority"],
        or_(jobs.c.expires_at.is_(None), jobs.c.expires_at > now),
    )
    # A job that is locked is being cancelled: that transaction waits for the lane, and must not be waited for.
    oldest = select(jobs.c.id).where(*of_lane).order_by(jobs.c.place).limit(count)
    return (await connection.scalars(oldest.with_for_update(skip_locked=True))).all()


def _rank() -> Select[Any]:
    """Where a job stands in its lane: how many wait in the blocks before its own, and how many in that up to it."""
    ahead, places = jobs.alias("ahead"), literal_column(str(BLOCK_PLACES), Integer)
    block = jobs.c.place // places
    before = (
        select(func.coalesce(func.sum(blocks.c.pending), 0))
        .where(
            blocks.c.model_id == jobs.c.model_id,
            blocks.c.client == jobs.c.client,
            blocks.c.priority == jobs.c.priority,
            blocks.c.block < block,
            text("blocks.pending > 0"),
        )
        .correlate(jobs)
        .scalar_subquery()
    )
    beside = (
        select(func.count())
        .select_from(ahead)
        .where(
            text("ahead.state = 'pending' AND ahead.not_before IS NULL"),
            ahead.c.model_id == jobs.c.model_id,
            ahead.c.client == jobs.c.client,
            ahead.c.priority == jobs.c.priority,
            ahead.c.place.between(block * places, jobs.c.place),
        )
        .correlate(jobs)
        .scalar_subquery()
    )
    in_lane = (
        lanes.c.model_id == jobs.c.model_id,
        lanes.c.client == jobs.c.client,
        lanes.c.priority == jobs.c.priority,
    )
    return (
        select(
            jobs.c.model_id,
            jobs.c.priority,
            lanes.c.last_turn,
            lanes.c.number,
            before.label("before"),
            beside.label("beside"),
        )
        .join(lanes, and_(*in_lane))
        .where(jobs.c.id == bindparam("job_id"), jobs.c.state == JobState.PENDING, jobs.c.not_before.is_(None))
    )


_RANK = _rank()
