"""The record of who did what to jobs, images and queues."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import RowMapping, insert, select

from deployments.jobs.database.tables import audit
from deployments.jobs.records.cursors import Cursor, next_cursor
from deployments.jobs.records.jobs import Record
from deployments.jobs.transaction.operations import Operations, reads


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


class Audit(Operations):
    """The audit record; an action is noted in the transaction that carries it out."""

    async def note(self, who: str, action: Action, job: RowMapping | None = None, **details: Any) -> None:
        """Note an action on a job, or on none."""
        of_job = {} if job is None else {"job_id": job["id"], "model_id": job["model_id"]}
        await self._add(who, action, details, **of_job)

    async def note_model(self, who: str, action: Action, model_id: str) -> None:
        """Note an action on a model's queue."""
        await self._add(who, action, {}, model_id=model_id)

    @reads
    async def page(self, limit: int = 50, cursor: str | None = None) -> AuditPage:
        """Return who did what, newest first: up to ``limit`` actions behind the cursor of an earlier page.

        Raises:
            InvalidCursorError: The cursor is not one of these lists.
        """
        newest = select(audit).order_by(audit.c.number.desc()).limit(limit + 1)
        if cursor is not None:
            newest = newest.where(audit.c.number < Cursor.decode(cursor).number)
        rows = (await self.connection.execute(newest)).mappings().all()
        entries = [AuditEntry(**{name: row[name] for name in AuditEntry.model_fields}) for row in rows[:limit]]
        ends = [Cursor(row["at"], row["number"]) for row in rows]
        return AuditPage(entries=entries, next_cursor=next_cursor(ends, limit))

    async def _add(self, who: str, action: Action, details: dict[str, Any], **of: str) -> None:
        row = {"at": self.transaction.now, "who": who, "action": action, "details": details, **of}
        await self.connection.execute(insert(audit).values(**row))
