"""The end of a job, however it comes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, update

from deployments.jobs.change import Change
from deployments.jobs.outbox import Outbox
from deployments.jobs.records import JobState
from deployments.jobs.tables import jobs


async def end_job(change: Change, row: RowMapping, state: JobState, message: str, **more: Any) -> RowMapping:
    """End a job that has not ended, and return its new row.

    Args:
        change: The transaction.
        row: The job as it is, locked.
        state: A terminal one.
        message: One sentence for the client.
        more: Values of further columns.
    """
    change.ledger.moved(row, state)
    # Holder and claim id stay: by them a repeated claim call finds that its jobs have moved on.
    ended = {"state": state, "message": message, "completed_at": change.now}
    gone = {"phase": None, "lease_until": None, "not_before": None}
    changed = await change.connection.execute(
        update(jobs).where(jobs.c.id == row["id"]).values(**ended, **gone, **more).returning(jobs)
    )
    await Outbox(change).put(row)
    row_now: RowMapping = changed.mappings().one()
    return row_now
