"""What the job store offers to operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.queue.administration import (
    Administration,
    Removable,
    RetentionLimits,
    paused_models,
    removable_by,
    removable_in,
)
from deployments.jobs.queue.attempts import Attempts
from deployments.jobs.records.jobs import JobState
from deployments.jobs.transaction.audit import Action, Audit, AuditPage, audit_page
from deployments.jobs.transaction.backoff import NO_PAUSES
from deployments.jobs.transaction.change import Change
from deployments.jobs.transaction.store_part import StorePart

Result = TypeVar("Result")


class StoreAdministration(StorePart):
    """For those who look after many jobs; every change names in the audit record who made it."""

    async def pause(self, model_id: str, who: str) -> None:
        """Let no job of a model be claimed any more; those that run go on, those that wait keep waiting."""
        await self._change(lambda change: Administration(change, who).pause(model_id))

    async def resume(self, model_id: str, who: str) -> None:
        """Take back :meth:`pause`."""
        await self._change(lambda change: Administration(change, who).resume(model_id))

    async def paused_models(self) -> list[str]:
        """Return the ids of the models that are paused."""
        return await self._database.read(paused_models)

    async def cancel_pending(self, limit: int, who: str) -> int:
        """Cancel up to ``limit`` pending jobs, the oldest first, and return how many it were."""
        return await self._change(lambda change: Administration(change, who).cancel_pending(limit))

    async def removable(self, state: JobState, limit: int) -> list[Removable]:
        """Return up to ``limit`` jobs in a state, the oldest first, with what to delete before :meth:`remove`."""
        return await self._database.read(lambda connection: removable_in(connection, state, limit))

    async def removable_by(self, limits: RetentionLimits, limit: int) -> list[Removable]:
        """As :meth:`removable`, of jobs that are kept no longer."""

        async def work(connection: AsyncConnection) -> list[Removable]:
            return await removable_by(connection, await self._now(connection), limits, limit)

        return await self._database.read(work)

    async def remove(self, job_ids: Sequence[str], who: str) -> int:
        """Forget those of these jobs that have ended, with their images, and return how many it were."""
        return await self._change(lambda change: Administration(change, who).remove(job_ids))

    async def audit(self, limit: int = 50, cursor: str | None = None) -> AuditPage:
        """Return who did what, newest first: up to ``limit`` actions behind the cursor of an earlier page.

        Raises:
            InvalidCursorError: The cursor is not one of these lists.
        """
        return await self._database.read(lambda connection: audit_page(connection, limit, cursor))

    async def reset(self, max_attempts: int, who: str) -> list[str]:
        """As :meth:`JobStore.reap`, because somebody asked for it: what is put back does not pause."""

        async def work(change: Change) -> list[str]:
            reaped = await Attempts(replace(change, backoff=NO_PAUSES)).reap(max_attempts)
            await Audit(change, who).note(Action.RESET, jobs=len(reaped))
            return reaped

        return await self._change(work)
