"""Jobs as those who follow them see them: the record, and what stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import select

from deployments.jobs.database.rows import job_of
from deployments.jobs.database.tables import RUNS, jobs
from deployments.jobs.images.images import Images
from deployments.jobs.queue.jobs import Jobs
from deployments.jobs.queue.outbox import Outbox, WebhookState, WebhookStatus
from deployments.jobs.records.jobs import Image, Job, JobState
from deployments.jobs.transaction.operations import Operations, reads

# A position takes two queries of its own. Of more pending jobs the last ones get none.
MOST_POSITIONS = 64


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
    """A job, and what stands beside its record.

    Attributes:
        job: The record.
        images: Those of a completed job, by their index.
        queue_position: How many claims of its model it takes to reach it; None unless it is pending.
        eta_seconds: Seconds until it ends, by the rates measured lately; None where nothing was measured.
        loading: The load of its model, while the job waits for it.
        preview: The newest preview of its images, a small WebP; None where there is none.
        webhook: The state of the call that its client asked for; None where it asked for none.
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


class Views(Operations):
    """Jobs with what stands beside their records."""

    @reads
    async def of(self, job_ids: Sequence[str]) -> Sight:
        """Return those of some jobs that exist, with their images, positions and webhooks.

        Of many pending jobs only the first ones have a position.
        """
        rows = await self.connection.execute(select(jobs).where(jobs.c.id.in_(job_ids)))
        found = {row["id"]: job_of(row) for row in rows.mappings()}
        pictures = await self._images_of([job.id for job in found.values() if job.state is JobState.COMPLETED])
        pending = [job_id for job_id in job_ids if job_id in found and found[job_id].state is JobState.PENDING]
        positions = {job_id: await Jobs(self.transaction).position(job_id) for job_id in pending[:MOST_POSITIONS]}
        called = await self._webhooks_of([job for job in found.values() if job.request.webhook_url is not None])
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
        return Sight(views, {model_id: await self._steps_left(model_id) for model_id in models})

    async def _images_of(self, job_ids: list[str]) -> dict[str, list[Image]]:
        found: dict[str, list[Image]] = {}
        for image in await Images(self.transaction).of_jobs(job_ids) if job_ids else ():
            found.setdefault(image.job_id, []).append(image)
        return found

    async def _webhooks_of(self, wanting: list[Job]) -> dict[str, WebhookStatus]:
        ended = [job.id for job in wanting if job.state.is_terminal]
        waiting = {job.id: WebhookStatus(state=WebhookState.WAITING) for job in wanting if not job.state.is_terminal}
        return waiting | (await Outbox(self.transaction).status_of(ended) if ended else {})

    async def _steps_left(self, model_id: str) -> list[int]:
        left = jobs.c.total_steps - jobs.c.step
        running = select(left).where(RUNS, jobs.c.model_id == model_id)
        return list((await self.connection.scalars(running)).all())
