"""Jobs as those see them who follow them: the record, and all that is told beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.rows import job_of
from deployments.jobs.database.tables import RUNS, jobs
from deployments.jobs.images.images import Images
from deployments.jobs.queue.outbox import WebhookState, WebhookStatus, webhooks_of
from deployments.jobs.queue.submits import queue_position
from deployments.jobs.records.jobs import Image, Job, JobState

# A position takes two queries of its own. Where more pending jobs are asked for, the last ones are told none.
MOST_POSITIONS = 64
MOST_OF_A_CLIENT = 1000


@dataclass(frozen=True)
class ModelLoad:
    """A model that is being loaded.

    Attributes:
        seconds: For how long it has been.
        usual_seconds: The median of its last loads; None where none is known.
    """

    seconds: float
    usual_seconds: float | None = None

    @property
    def rest_seconds(self) -> float | None:
        """How much longer it takes, if it takes as long as usual; None where that is not known."""
        return None if self.usual_seconds is None else max(0.0, self.usual_seconds - self.seconds)


@dataclass(frozen=True)
class JobView:
    """A job, and what is told beside its record.

    Attributes:
        job: The record.
        images: Those of a completed job, by their index.
        queue_position: How many claims of its model it takes to reach it; None unless it is pending.
        eta_seconds: In how many seconds it will have ended, by what was measured lately; None where nothing was.
        loading: The load of its model, while the job waits for it.
        preview: What its newest image is becoming, as a small WebP; None where that is not known.
        webhook: How the call fares that its client wants; None where it wants none.
    """

    job: Job
    images: tuple[Image, ...] = ()
    queue_position: int | None = None
    eta_seconds: float | None = None
    loading: ModelLoad | None = None
    preview: bytes | None = field(default=None, repr=False)
    webhook: WebhookStatus | None = None


@dataclass(frozen=True)
class Sight:
    """Some jobs at one moment.

    Attributes:
        views: By job id; those that there are, without what only the tracker knows.
        steps_left: Of each running job of their models, by model id.
    """

    views: dict[str, JobView]
    steps_left: dict[str, list[int]]


async def look_at(connection: AsyncConnection, job_ids: Sequence[str]) -> Sight:
    """See :meth:`JobStore.get_many`."""
    rows = await connection.execute(select(jobs).where(jobs.c.id.in_(job_ids)))
    found = {row["id"]: job_of(row) for row in rows.mappings()}
    pictures = await _images_of(connection, [job.id for job in found.values() if job.state is JobState.COMPLETED])
    pending = [job_id for job_id in job_ids if job_id in found and found[job_id].state is JobState.PENDING]
    positions = {job_id: await queue_position(connection, job_id) for job_id in pending[:MOST_POSITIONS]}
    called = await _webhooks_of(connection, [job for job in found.values() if job.request.webhook_url is not None])
    views = {
        job_id: JobView(
            job,
            images=tuple(pictures.get(job_id, ())),
            queue_position=positions.get(job_id),
            webhook=called.get(job_id),
        )
        for job_id, job in found.items()
    }
    models = {found[job_id].request.model_id for job_id in positions}
    return Sight(views, {model_id: await _steps_left(connection, model_id) for model_id in models})


async def jobs_of_clients(connection: AsyncConnection, ended_since: Mapping[str, datetime]) -> list[str]:
    """See :meth:`JobStore.jobs_of_clients`."""
    found: list[str] = []
    for client, since in ended_since.items():
        newest = (
            select(jobs.c.id)
            .where(jobs.c.client == client, or_(jobs.c.completed_at.is_(None), jobs.c.completed_at >= since))
            .order_by(jobs.c.number.desc())
            .limit(MOST_OF_A_CLIENT)
        )
        found += reversed((await connection.scalars(newest)).all())
    return found


async def _images_of(connection: AsyncConnection, job_ids: list[str]) -> dict[str, list[Image]]:
    found: dict[str, list[Image]] = {}
    for image in await Images(connection).of_jobs(job_ids) if job_ids else ():
        found.setdefault(image.job_id, []).append(image)
    return found


async def _webhooks_of(connection: AsyncConnection, wanting: list[Job]) -> dict[str, WebhookStatus]:
    ended = [job.id for job in wanting if job.state.is_terminal]
    waiting = {job.id: WebhookStatus(state=WebhookState.WAITING) for job in wanting if not job.state.is_terminal}
    return waiting | (await webhooks_of(connection, ended) if ended else {})


async def _steps_left(connection: AsyncConnection, model_id: str) -> list[int]:
    left = jobs.c.total_steps - jobs.c.step
    running = select(left).where(RUNS, jobs.c.model_id == model_id)
    return list((await connection.scalars(running)).all())
