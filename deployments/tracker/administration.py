"""The part of the job tracker for operators: paused models, clearing, retention, who did what."""

from __future__ import annotations

from collections.abc import Sequence

from deployments.jobs.queue.administration import Removable, RetentionLimits
from deployments.jobs.queue.store_administration import StoreAdministration
from deployments.jobs.records.jobs import JobState
from deployments.jobs.transaction.audit import AuditPage
from deployments.settings.telemetry import LogLevel
from deployments.telemetry.logs import set_log_level
from deployments.tracker.part import TrackerPart


class TrackerAdministration(TrackerPart):
    """Each method raises what the method of :class:`StoreAdministration` with its name raises."""

    async def _administration(self) -> StoreAdministration:
        return (await self._store()).administration

    async def pause(self, model_id: str, who: str) -> None:
        """Let no job of a model be claimed any more; those that run go on, those that wait keep waiting."""
        await (await self._administration()).pause(model_id, who)

    async def resume(self, model_id: str, who: str) -> None:
        """Take back :meth:`pause`."""
        await (await self._administration()).resume(model_id, who)

    async def paused_models(self) -> list[str]:
        """Return the ids of the models that are paused."""
        return await (await self._administration()).paused_models()

    async def cancel_pending(self, limit: int, who: str) -> int:
        """Cancel up to ``limit`` pending jobs, the oldest first, and return how many it were."""
        return await (await self._administration()).cancel_pending(limit, who)

    async def removable(self, state: JobState, limit: int) -> list[Removable]:
        """Return up to ``limit`` jobs in a state, the oldest first, with the images to delete before :meth:`remove`."""
        return await (await self._administration()).removable(state, limit)

    async def removable_by(self, limits: RetentionLimits, limit: int) -> list[Removable]:
        """As :meth:`removable`, of jobs that are kept no longer."""
        return await (await self._administration()).removable_by(limits, limit)

    async def remove(self, job_ids: Sequence[str], who: str) -> int:
        """Forget those of these jobs that have ended, with their images, and return how many it were."""
        return await (await self._administration()).remove(job_ids, who)

    async def set_log_level(self, level: LogLevel) -> None:
        """Log from this level on, until the tracker's process starts anew."""
        set_log_level(level)

    async def audit(self, limit: int = 50, cursor: str | None = None) -> AuditPage:
        """Return a page of who did what, newest first."""
        return await (await self._administration()).audit(limit, cursor)
