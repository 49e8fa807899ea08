"""The end of a job: completed, failed, cancelled or expired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, bindparam, update

from deployments.jobs.database.tables import jobs
from deployments.jobs.queue.outbox import Outbox
from deployments.jobs.records.jobs import JobState
from deployments.jobs.transaction.transaction import Transaction


async def end_job(transaction: Transaction, row: RowMapping, state: JobState, message: str) -> RowMapping:
    """End a job that has not ended, and return its new row.

    Args:
        transaction: The transaction.
        row: The job as it is, locked.
        state: A terminal one.
        message: One sentence for the client.
    """
    transaction.ledger.moved(row, state)
    changed = await transaction.connection.execute(
        update(jobs).where(jobs.c.id == row["id"]).values(**_end(transaction, state, message)).returning(jobs)
    )
    await Outbox(transaction).put([row])
    row_now: RowMapping = changed.mappings().one()
    return row_now


async def complete_jobs(transaction: Transaction, rows: Sequence[RowMapping]) -> None:
    """End jobs that have their images: a few statements, however many jobs there are.

    Args:
        transaction: The transaction.
        rows: The jobs as they are, locked; all of them are processing.
    """
    if not rows:
        return
    for row in rows:
        transaction.ledger.moved(row, JobState.COMPLETED)
    took = [{"ended": row["id"], "seconds": (transaction.now - row["started_at"]).total_seconds()} for row in rows]
    await transaction.connection.execute(
        update(jobs)
        .where(jobs.c.id == bindparam("ended"))
        .values(
            **_end(transaction, JobState.COMPLETED, ""),
            step=jobs.c.total_steps,
            processing_seconds=bindparam("seconds"),
        ),
        took,
    )
    await Outbox(transaction).put(rows)


def _end(transaction: Transaction, state: JobState, message: str) -> dict[str, Any]:
    # Holder and claim id stay: by them a repeated claim call finds that its jobs have moved on.
    gone = {"phase": None, "lease_until": None, "not_before": None}
    return {"state": state, "message": message, "completed_at": transaction.now, **gone}
