"""The end of a job, however it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, bindparam, update

from deployments.jobs.database.tables import jobs
from deployments.jobs.queue.outbox import Outbox
from deployments.jobs.records.jobs import JobState
from deployments.jobs.transaction.change import Change


async def end_job(change: Change, row: RowMapping, state: JobState, message: str) -> RowMapping:
    """End a job that has not ended, and return its new row.

    Args:
        change: The transaction.
        row: The job as it is, locked.
        state: A terminal one.
        message: One sentence for the client.
    """
    change.ledger.moved(row, state)
    changed = await change.connection.execute(
        update(jobs).where(jobs.c.id == row["id"]).values(**_end(change, state, message)).returning(jobs)
    )
    await Outbox(change).put([row])
    row_now: RowMapping = changed.mappings().one()
    return row_now


async def complete_jobs(change: Change, rows: Sequence[RowMapping]) -> None:
    """End jobs that have their images: a few statements, however many jobs there are.

    Args:
        change: The transaction.
        rows: The jobs as they are, locked; all of them are processing.
    """
    if not rows:
        return
    for row in rows:
        change.ledger.moved(row, JobState.COMPLETED)
    took = [{"ended": row["id"], "seconds": (change.now - row["started_at"]).total_seconds()} for row in rows]
    await change.connection.execute(
        update(jobs)
        .where(jobs.c.id == bindparam("ended"))
        .values(
            **_end(change, JobState.COMPLETED, ""), step=jobs.c.total_steps, processing_seconds=bindparam("seconds")
        ),
        took,
    )
    await Outbox(change).put(rows)


def _end(change: Change, state: JobState, message: str) -> dict[str, Any]:
    # Holder and claim id stay: by them a repeated claim call finds that its jobs have moved on.
    gone = {"phase": None, "lease_until": None, "not_before": None}
    return {"state": state, "message": message, "completed_at": change.now, **gone}
