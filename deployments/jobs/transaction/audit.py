"""The record of who did what to jobs, images and queues."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import RowMapping, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.tables import audit
from deployments.jobs.records.cursors import Cursor, next_cursor
from deployments.jobs.records.jobs import Record
from deployments.jobs.transaction.change import Change


class Action(StrEnum):
    """What was done."""

    CANCEL = "cancel"
    RETRY = "retry"
    REPRIORITIZE = "reprioritize"
    PAUSE = "pause"
    RESUME = "resume"
    RESET = "reset"
    CLEAR = "clear"
    DELETE_IMAGE = "delete_image"
    DELETE_IMAGES = "delete_images"
    CREATE_KEY = "create_key"
    REVOKE_KEY = "revoke_key"


class AuditEntry(Record):
    """One action."""

    at: datetime
    who: Annotated[str, Field(description="An API key's name, an address, or `retention`.")]
    action: Action
    job_id: str | None = None
    model_id: str | None = None
    details: dict[str, Any]


class AuditPage(Record):
    """Some actions, newest first."""

    entries: list[AuditEntry]
    next_cursor: str | None
    """Where the next page begins; None on the last one."""


@dataclass(frozen=True)
class Audit:
    """Notes actions, within the transaction that carries them out."""

    change: Change
    who: str

    async def note(self, action: Action, job: RowMapping | None = None, **details: Any) -> None:
        """Note an action on a job, or on none."""
        of_job = {} if job is None else {"job_id": job["id"], "model_id": job["model_id"]}
        await self._add(action, details, **of_job)

    async def note_model(self, action: Action, model_id: str) -> None:
        """Note an action on a model's queue."""
        await self._add(action, {}, model_id=model_id)

    async def _add(self, action: Action, details: dict[str, Any], **of: str) -> None:
        row = {"at": self.change.now, "who": self.who, "action": action, "details": details, **of}
        await self.change.connection.execute(insert(audit).values(**row))


async def audit_page(connection: AsyncConnection, limit: int, cursor: str | None) -> AuditPage:
    """See :meth:`StoreAdministration.audit`."""
    newest = select(audit).order_by(audit.c.number.desc()).limit(limit + 1)
    if cursor is not None:
        newest = newest.where(audit.c.number < Cursor.decode(cursor).number)
    rows = (await connection.execute(newest)).mappings().all()
    entries = [AuditEntry(**{name: row[name] for name in AuditEntry.model_fields}) for row in rows[:limit]]
    ends = [Cursor(row["at"], row["number"]) for row in rows]
    return AuditPage(entries=entries, next_cursor=next_cursor(ends, limit))
